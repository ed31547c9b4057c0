//! What of a message's header passes the proxy: everything but what belongs to one connection (RFC 9110 section 7.6.1).

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::uri::Authority;
use std::net::IpAddr;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Makes a client's header one for the upstream. `upgrade` is the protocol that the client wants to switch to.
pub(super) fn to_upstream(headers: &mut HeaderMap, authority: &Authority, client: IpAddr, upgrade: Option<&HeaderValue>) {
    let takes_trailers = headers
        .get_all(TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|te| te.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers")));
    strip(headers);
    headers.remove(PROXY_AUTHORIZATION);
    // hyper has said "100 Continue" itself by the time that the body is read.
    headers.remove(EXPECT);
    join_cookies(headers);
    if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
        headers.insert(HOST, host.clone());
        headers.insert(X_FORWARDED_HOST, host);
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
    append_client(headers, client);
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.clone());
    } else if takes_trailers {
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Makes an upstream's header one for the client.
pub(super) fn to_client(headers: &mut HeaderMap) {
    strip(headers);
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        // What frames or addresses the message is no option of a connection, whatever a client says.
        .filter(|name| !matches!(*name, HOST | CONTENT_LENGTH))
        .collect();
    for name in named.iter().chain(&[CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE]) {
        headers.remove(name);
    }
}

/// HTTP/2 clients may send a cookie in crumbs; HTTP/1.1 servers expect one line (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_some() {
        let joined = join(headers, &COOKIE, b"; ");
        if let Ok(value) = HeaderValue::from_bytes(&joined) {
            headers.insert(COOKIE, value);
        }
    }
}

fn append_client(headers: &mut HeaderMap, client: IpAddr) {
    let mut list = join(headers, &X_FORWARDED_FOR, b", ");
    if !list.is_empty() {
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(client.to_canonical().to_string().as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&list) {
        headers.insert(X_FORWARDED_FOR, value);
    }
}

fn join(headers: &HeaderMap, name: &HeaderName, separator: &[u8]) -> Vec<u8> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(lines: &[(&str, &str)], upgrade: Option<&str>) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        let upgrade = upgrade.map(|protocol| HeaderValue::try_from(protocol).unwrap());
        to_upstream(&mut headers, &Authority::from_static("a.example.com:8443"), "192.0.2.7".parse().unwrap(), upgrade.as_ref());
        let mut lines: Vec<_> = headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        lines.sort();
        lines
    }

    fn expect(extra: &[(&str, &str)]) -> Vec<(String, String)> {
        let fixed = [("host", "a.example.com:8443"), ("x-forwarded-host", "a.example.com:8443"), ("x-forwarded-proto", "https")];
        let mut lines: Vec<_> = fixed.iter().chain(extra).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        lines.sort();
        lines
    }

    type Lines<'a> = &'a [(&'a str, &'a str)];

    #[test]
    fn what_belongs_to_one_connection_stays_on_it() {
        let client = ("x-forwarded-for", "192.0.2.7");
        #[rustfmt::skip]
        let table: &[(&str, Lines<'_>, Option<&str>, Lines<'_>)] = &[
            ("plain",             &[("accept", "*/*")],                                              None, &[client, ("accept", "*/*")]),
            ("hop by hop",        &[("connection", "close"), ("keep-alive", "5"), ("proxy-connection", "x"), ("proxy-authorization", "s"), ("te", "gzip"), ("expect", "100-continue")], None, &[client]),
            ("named",             &[("connection", "X-One, close"), ("x-one", "1"), ("x-two", "2")], None, &[client, ("x-two", "2")]),
            ("named framing",     &[("connection", "content-length"), ("content-length", "3")],      None, &[client, ("content-length", "3")]),
            ("forwarded lists",   &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2")], None, &[("x-forwarded-for", "1.1.1.1, 2.2.2.2, 192.0.2.7")]),
            ("forged proto",      &[("x-forwarded-proto", "http"), ("x-forwarded-host", "evil")],    None, &[client]),
            ("cookie crumbs",     &[("cookie", "a=1"), ("cookie", "b=2")],                           None, &[client, ("cookie", "a=1; b=2")]),
            ("trailers",          &[("te", "trailers, deflate")],                                    None, &[client, ("connection", "te"), ("te", "trailers")]),
            ("upgrade",           &[("connection", "Upgrade"), ("upgrade", "websocket")],            Some("websocket"), &[client, ("connection", "upgrade"), ("upgrade", "websocket")]),
            ("upgrade not asked", &[("upgrade", "h2c")],                                             None, &[client]),
        ];
        for (name, lines, upgrade, extra) in table {
            assert_eq!(forwarded(lines, *upgrade), expect(extra), "{name}");
        }
    }
}
