//! What of a file a client gets: encoding, conditions and ranges by RFC 9110 sections 12 to 14. Pure.

use super::open::Found;
use http::header::{ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};
use jiff::Timestamp;
use jiff::fmt::rfc2822::{DateTimeParser, DateTimePrinter};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Brotli,
    Gzip,
}

impl Encoding {
    pub(super) fn token(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gz",
        }
    }
}

/// The encodings that the client takes, best first; of two that it likes equally, the smaller one.
pub(super) fn accepted_encodings(headers: &HeaderMap) -> Vec<Encoding> {
    let quality = |token: &str| {
        let mut any = None;
        for item in lines(headers, &ACCEPT_ENCODING).flat_map(|line| line.split(',')) {
            let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
            let weight = parameters.trim().strip_prefix("q=").map_or(Some(1.0), |q| q.trim().parse::<f32>().ok()).unwrap_or(0.0);
            if name.trim().eq_ignore_ascii_case(token) {
                return weight;
            }
            if name.trim() == "*" {
                any = Some(weight);
            }
        }
        any.unwrap_or(0.0)
    };
    let mut accepted: Vec<(Encoding, f32)> = [Encoding::Brotli, Encoding::Gzip]
        .into_iter()
        .map(|encoding| (encoding, quality(encoding.token())))
        .filter(|(_, weight)| *weight > 0.0)
        .collect();
    accepted.sort_by(|a, b| b.1.total_cmp(&a.1));
    accepted.into_iter().map(|(encoding, _)| encoding).collect()
}

/// What names this version of this representation.
pub(super) struct Validators {
    pub(super) etag: HeaderValue,
    modified: Option<Timestamp>,
}

impl Validators {
    /// Times of unpacked files are often all alike, so the name of the content is part of the tag.
    pub(super) fn new(content: &str, found: &Found) -> Self {
        let content: String = content.chars().rev().filter(char::is_ascii_alphanumeric).take(32).collect();
        let (seconds, nanoseconds) = found.modified;
        let encoding = found.encoding.map_or("", Encoding::token);
        let tag = format!("\"{content}-{seconds:x}.{nanoseconds:x}-{:x}{encoding}\"", found.len);
        Self {
            etag: HeaderValue::try_from(tag).unwrap_or_else(|_| HeaderValue::from_static("\"\"")),
            modified: Timestamp::from_second(seconds).ok(),
        }
    }

    pub(super) fn last_modified(&self) -> Option<HeaderValue> {
        let text = DateTimePrinter::new().timestamp_to_rfc9110_string(self.modified.as_ref()?).ok()?;
        HeaderValue::try_from(text).ok()
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Selection {
    Whole,
    /// Both ends are part of it.
    Part {
        first: u64,
        last: u64,
    },
    Unchanged,
    Unsatisfiable,
}

/// In the order of RFC 9110 section 13.2.2: `If-None-Match`, else `If-Modified-Since`, then `Range` if `If-Range` holds.
pub(super) fn select(headers: &HeaderMap, validators: &Validators, len: u64) -> Selection {
    let unchanged = if headers.contains_key(IF_NONE_MATCH) {
        let etag = validators.etag.to_str().unwrap_or_default();
        lines(headers, &IF_NONE_MATCH).flat_map(|line| line.split(',')).map(str::trim).any(|tag| tag == "*" || weak(tag) == etag)
    } else {
        match (date(headers, &IF_MODIFIED_SINCE), validators.modified) {
            (Some(since), Some(modified)) => modified <= since,
            _ => false,
        }
    };
    if unchanged {
        return Selection::Unchanged;
    }
    if !if_range_holds(headers, validators) {
        return Selection::Whole;
    }
    let mut ranges = lines(headers, &RANGE);
    match (ranges.next(), ranges.next()) {
        (Some(range), None) => parse_range(range, len),
        _ => Selection::Whole,
    }
}

fn if_range_holds(headers: &HeaderMap, validators: &Validators) -> bool {
    match headers.get(IF_RANGE) {
        None => true,
        Some(tag) if tag.as_bytes().starts_with(b"\"") => *tag == validators.etag,
        Some(tag) if tag.as_bytes().starts_with(b"W/") => false,
        Some(_) => date(headers, &IF_RANGE).is_some_and(|date| Some(date) == validators.modified),
    }
}

/// One range; several, or what is no byte range at all, is answered with the whole file, as RFC 9110 section 14.2 allows.
fn parse_range(text: &str, len: u64) -> Selection {
    let Some((first, last)) = text.trim().strip_prefix("bytes=").and_then(|range| range.trim().split_once('-')) else {
        return Selection::Whole;
    };
    let number = |digits: &str| -> Option<u64> {
        let is_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        // A number too big for us is beyond every file, and that is all that matters.
        is_digits.then(|| digits.parse().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        (None, Some(suffix)) if first.is_empty() => match suffix {
            0 => Selection::Unsatisfiable,
            _ if len == 0 => Selection::Unsatisfiable,
            _ => Selection::Part { first: len.saturating_sub(suffix), last: len - 1 },
        },
        (Some(first), Some(last)) if first > last => Selection::Whole,
        (Some(first), end) if end.is_some() || last.is_empty() => match first {
            _ if first >= len => Selection::Unsatisfiable,
            _ => Selection::Part { first, last: end.unwrap_or(u64::MAX).min(len - 1) },
        },
        _ => Selection::Whole,
    }
}

/// The media type by the name's extension, with UTF-8 where it is text.
pub(super) fn content_type(name: &str) -> String {
    let kind = mime_guess::from_path(name).first_raw().unwrap_or("application/octet-stream");
    let is_text = kind.starts_with("text/") || matches!(kind, "application/javascript" | "application/xml" | "application/manifest+json");
    if is_text { format!("{kind}; charset=utf-8") } else { kind.to_owned() }
}

fn weak(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(headers.get(name)?.to_str().ok()?).ok()
}

fn lines<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_file_or_refused_or_ignored() {
        use Selection::{Part, Unsatisfiable, Whole};
        #[rustfmt::skip]
        let table: &[(&str, u64, Selection)] = &[
            ("bytes=0-0",    10, Part { first: 0, last: 0 }),
            ("bytes=2-5",    10, Part { first: 2, last: 5 }),
            ("bytes=2-",     10, Part { first: 2, last: 9 }),
            ("bytes=2-99",   10, Part { first: 2, last: 9 }),
            ("bytes=-3",     10, Part { first: 7, last: 9 }),
            ("bytes=-99",    10, Part { first: 0, last: 9 }),
            ("bytes=0-99999999999999999999999", 10, Part { first: 0, last: 9 }),
            ("bytes=10-",    10, Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=-0",     10, Unsatisfiable),
            ("bytes=0-0",    0,  Unsatisfiable),
            ("bytes=-1",     0,  Unsatisfiable),
            ("bytes=5-2",    10, Whole),
            ("bytes=0-1,3-4", 10, Whole),
            ("bytes=a-b",    10, Whole),
            ("bytes=1-b",    10, Whole),
            ("bytes=-",      10, Whole),
            ("bytes=+1-2",   10, Whole),
            ("lines=1-2",    10, Whole),
            ("bytes",        10, Whole),
        ];
        for (text, len, expected) in table {
            assert_eq!(parse_range(text, *len), *expected, "{text} of {len}");
        }
    }

    #[test]
    fn encodings_follow_the_clients_weights() {
        use Encoding::{Brotli, Gzip};
        #[rustfmt::skip]
        let table: &[(&str, &[Encoding])] = &[
            ("gzip, deflate, br",    &[Brotli, Gzip]),
            ("gzip;q=1.0, br;q=0.5", &[Gzip, Brotli]),
            ("br;q=0, gzip",         &[Gzip]),
            ("*",                    &[Brotli, Gzip]),
            ("*;q=0",                &[]),
            ("gzip;q=0, *;q=0.1",    &[Brotli]),
            ("identity",             &[]),
            ("GZIP",                 &[Gzip]),
            ("br;q=nonsense",        &[]),
        ];
        for (accept, expected) in table {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::try_from(*accept).unwrap())]);
            assert_eq!(accepted_encodings(&headers), *expected, "{accept}");
        }
    }
}
