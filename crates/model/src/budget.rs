//! CA limits as a local budget: token buckets, spent earliest-deadline-first.
//!
//! A bucket belongs to one CA and account. The limits are the CA's published ones (Let's Encrypt: 300 new orders an
//! account in 3 hours, refilled one every 36 s). Buckets live in the store; this module only computes.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// `burst` orders at once, one more every `refill`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    pub burst: u32,
    pub refill_ms: i64,
}

impl Limit {
    /// Let's Encrypt, new orders per account: 300 every 3 hours, refilled one every 36 seconds.
    pub const LETS_ENCRYPT_ORDERS: Limit = Limit { burst: 300, refill_ms: 36_000 };
}

/// A bucket at a moment, as a generic cell rate algorithm: the time at which it would be full again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    pub full_at: Timestamp,
}

impl Bucket {
    pub fn full(now: Timestamp) -> Self {
        Self { full_at: now }
    }

    /// Tokens that can be taken at `now`. A clock that went back never gives more than `burst`, nor locks for longer than
    /// an empty bucket takes to fill.
    pub fn available(self, limit: Limit, now: Timestamp) -> u32 {
        let missing_ms = self.missing_ms(limit, now);
        let missing = (missing_ms + limit.refill_ms - 1) / limit.refill_ms.max(1);
        limit.burst.saturating_sub(u32::try_from(missing).unwrap_or(u32::MAX))
    }

    /// Takes up to `wanted` tokens; says how many it gave.
    #[must_use]
    pub fn take(self, limit: Limit, now: Timestamp, wanted: u32) -> (Self, u32) {
        let given = wanted.min(self.available(limit, now));
        let missing_ms = self.missing_ms(limit, now) + i64::from(given) * limit.refill_ms;
        (Self { full_at: now + SignedDuration::from_millis(missing_ms) }, given)
    }

    /// When the next token is there; `now` where one is there already.
    pub fn next_token_at(self, limit: Limit, now: Timestamp) -> Timestamp {
        let over = self.missing_ms(limit, now) - (i64::from(limit.burst) - 1) * limit.refill_ms;
        now + SignedDuration::from_millis(over.max(0))
    }

    fn missing_ms(self, limit: Limit, now: Timestamp) -> i64 {
        let missing = self.full_at.as_millisecond().saturating_sub(now.as_millisecond());
        missing.clamp(0, i64::from(limit.burst) * limit.refill_ms)
    }
}

/// Who gets the tokens: the earliest deadline first, ties by the order given. Returns the indices that are served.
pub fn earliest_deadline_first(deadlines: &[Timestamp], tokens: u32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..deadlines.len()).collect();
    order.sort_by_key(|&index| deadlines[index]);
    order.truncate(tokens as usize);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { burst: 3, refill_ms: 10_000 };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_bucket_gives_its_burst_then_one_token_a_refill() {
        let (bucket, given) = Bucket::full(at(0)).take(LIMIT, at(0), 5);
        assert_eq!(given, 3);
        for (seconds, available) in [(0, 0), (9, 0), (10, 1), (19, 1), (20, 2), (30, 3), (900, 3)] {
            assert_eq!(bucket.available(LIMIT, at(seconds)), available, "after {seconds} s");
        }
        assert_eq!(bucket.next_token_at(LIMIT, at(0)), at(10));
        assert_eq!(bucket.next_token_at(LIMIT, at(4)), at(10));
        assert_eq!(bucket.next_token_at(LIMIT, at(50)), at(50));
    }

    #[test]
    fn a_clock_moved_back_by_a_day_costs_at_most_one_refill_of_the_bucket() {
        let (bucket, _) = Bucket::full(at(86_400)).take(LIMIT, at(86_400), 3);
        assert_eq!(bucket.available(LIMIT, at(0)), 0);
        let (bucket, _) = bucket.take(LIMIT, at(0), 1);
        assert_eq!(bucket.available(LIMIT, at(10)), 1);
    }

    #[test]
    fn the_earliest_deadline_is_served_first() {
        assert_eq!(earliest_deadline_first(&[at(9), at(3), at(5), at(3)], 3), vec![1, 3, 2]);
        assert_eq!(earliest_deadline_first(&[at(9)], 0), Vec::<usize>::new());
    }

    proptest::proptest! {
        #[test]
        fn no_sequence_of_takes_exceeds_the_rate(steps in proptest::collection::vec((0i64..40, 0u32..5), 1..60)) {
            let (mut bucket, mut now, mut taken) = (Bucket::full(at(0)), 0i64, 0u32);
            for (pause, wanted) in steps {
                now += pause;
                let (next, given) = bucket.take(LIMIT, at(now), wanted);
                bucket = next;
                taken += given;
                proptest::prop_assert!(i64::from(taken) <= 3 + now / 10);
            }
        }
    }
}
