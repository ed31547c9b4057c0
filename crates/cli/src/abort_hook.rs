//! The kill tests' hook: aborts the process at one exact point, as a power cut would. Not a setting, and in no manual.
//!
//! `CERTWRIGHT_TEST_ABORT_AT=<step>:<before|after>:<count>`: at the `count`th time that the step comes by.

use certwright_engine::StepHook;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const VARIABLE: &str = "CERTWRIGHT_TEST_ABORT_AT";

struct Point {
    step: String,
    before: bool,
    count: u64,
}

/// `None` where the variable is not set.
pub(crate) fn from_environment() -> anyhow::Result<Option<StepHook>> {
    let Some(text) = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty()) else { return Ok(None) };
    let point = parse(&text).ok_or_else(|| anyhow::anyhow!("{VARIABLE} is <step>:<before|after>:<count>"))?;
    let seen = AtomicU64::new(0);
    Ok(Some(Arc::new(move |step, before| {
        if step == point.step && before == point.before && seen.fetch_add(1, Ordering::SeqCst) + 1 == point.count {
            std::process::abort();
        }
    })))
}

fn parse(text: &str) -> Option<Point> {
    let mut parts = text.rsplitn(3, ':');
    let count = parts.next()?.parse().ok().filter(|count| *count > 0)?;
    let before = match parts.next()? {
        "before" => true,
        "after" => false,
        _ => return None,
    };
    let step = parts.next().filter(|step| !step.is_empty())?.to_owned();
    Some(Point { step, before, count })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_point_is_a_step_a_side_and_a_count() {
        let point = parse("site:prepare:after:2").unwrap();
        assert_eq!((point.step.as_str(), point.before, point.count), ("site:prepare", false, 2));
        for bad in ["", "a", "a:before", "a:during:1", "a:before:0", ":before:1", "a:before:x"] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
