//! How long to wait after a failure, by the domain's failure policy (SPEC section 5).

use crate::domain::FailurePolicy;
use jiff::SignedDuration;

/// What a policy says before retry `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    After(SignedDuration),
    /// Not before a person or a new event says so.
    Held,
}

/// The delay before retry `n` (1, 2, 3 …). `entropy` in `[0, 1)` spreads it by ±10 %.
pub fn retry(policy: FailurePolicy, n: u32, entropy: f64) -> Retry {
    let (base_minutes, cap_hours) = match policy {
        FailurePolicy::Standard => (1, 6),
        FailurePolicy::Strict => (5, 12),
        FailurePolicy::Hold if n > 3 => return Retry::Held,
        FailurePolicy::Hold => (10, 24),
    };
    let doublings = n.saturating_sub(1).min(20);
    let plain = SignedDuration::from_mins(base_minutes << doublings).min(SignedDuration::from_hours(cap_hours));
    Retry::After(jittered(plain, entropy))
}

/// `duration` ±10 %.
pub fn jittered(duration: SignedDuration, entropy: f64) -> SignedDuration {
    duration.mul_f64(0.9 + 0.2 * entropy.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use FailurePolicy::*;

    #[test]
    fn delays_double_up_to_their_cap_and_hold_stops_after_the_third() {
        #[rustfmt::skip]
        let table = [
            (Standard, 1, Some(1)), (Standard, 2, Some(2)), (Standard, 9, Some(256)), (Standard, 10, Some(360)), (Standard, 4_000_000, Some(360)),
            (Strict,   1, Some(5)), (Strict,   2, Some(10)), (Strict,  9, Some(720)),
            (Hold,     1, Some(10)), (Hold,    2, Some(20)), (Hold,    3, Some(40)),  (Hold, 4, None),
        ];
        for (policy, n, minutes) in table {
            let expected = minutes.map_or(Retry::Held, |m| Retry::After(SignedDuration::from_mins(m)));
            assert_eq!(retry(policy, n, 0.5), expected, "{policy} {n}");
        }
    }

    proptest::proptest! {
        #[test]
        fn jitter_stays_within_ten_percent(n in 1u32..40, entropy in 0.0f64..1.0) {
            let Retry::After(middle) = retry(Standard, n, 0.5) else { unreachable!() };
            let Retry::After(got) = retry(Standard, n, entropy) else { unreachable!() };
            proptest::prop_assert!(got >= middle.mul_f64(0.899) && got <= middle.mul_f64(1.101));
        }
    }
}
