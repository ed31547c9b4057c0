//! Bad input: a clear 4xx that names what is wrong, and nothing is changed.

use crate::support::{idle, page, zip_of};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use std::io::Write;
use zip::write::SimpleFileOptions;

#[tokio::test]
async fn names_and_domains_that_cannot_be_are_refused() {
    let server = idle().await;
    server.active_site("shop").await;
    let long_label = format!("{}.example.com", "a".repeat(64));
    let long_name = format!("{}example.com", "a1234567.".repeat(30));
    let domains = [
        "",
        ".",
        "com",
        "-a.example.com",
        "a-.example.com",
        "a..example.com",
        "a b.example.com",
        "a_b.example.com",
        long_label.as_str(),
        long_name.as_str(),
        "*.*.example.com",
        "a.*.example.com",
        "127.0.0.1",
        "[::1]",
        "http://a.example.com",
        "a.example.com/x",
        "a.example.com:443",
        "xn--a.example.com",
        "xn--\u{fc}.example.com",
        "a\u{200d}b.example.com",
        "\u{202e}evil.example.com",
        "a\u{0}.example.com",
        "ex\u{3002}\u{3002}ample.com",
    ];
    for domain in domains {
        for (path, body) in [("/v1/domains", json!({ "domain": domain })), ("/api/sites/shop/domain", json!({ "domain": domain }))] {
            let answer = server.call("POST", path, Some(body)).await;
            assert_eq!(
                (answer.status.as_u16(), answer.body["field"].as_str()),
                (400, Some("domain")),
                "{path} {domain:?}: {}",
                answer.text
            );
        }
    }
    for site in ["", "-a", "a-", "Shop", "a.b", "a_b", "../etc", "xn--a", "ab--cd", &"a".repeat(41), "a\u{0}"] {
        let body = json!({ "site": site, "upstream": "http://127.0.0.1:3000" });
        server.call("POST", "/api/provision", Some(body)).await.refuses(400, Some("site"), "a site name has");
        server.call("POST", "/api/destroy", Some(json!({ "site": site }))).await.refuses(400, Some("site"), "a site name has");
    }
    let all = server.call("GET", "/v1/domains", None).await.is(200);
    assert_eq!(all["items"].as_array().unwrap().len(), 1, "only the default domain of `shop` is there");
    server.stop().await;
}

/// Method, path, body; then the status, the field and words of the refusal.
type Case = (&'static str, &'static str, Value, u16, Option<&'static str>, &'static str);

#[tokio::test]
async fn what_is_missing_or_not_offered_is_said() {
    let server = idle().await;
    let cases: Vec<Case> = vec![
        ("POST", "/api/provision", json!({ "site": "shop" }), 400, Some("upstream"), "an upstream is needed"),
        ("POST", "/api/provision", json!({ "site": "shop", "kind": "wordpress" }), 400, Some("kind"), "cannot be made yet"),
        ("POST", "/api/provision", json!({ "site": "shop", "kind": "static" }), 400, Some("kind"), "/api/static/provision"),
        ("POST", "/api/provision", json!({ "site": "shop", "upstream": "https://x" }), 400, Some("upstream"), "http://host:port"),
        ("POST", "/api/provision", json!({ "site": "shop", "upstream": "http://u:p@h:1" }), 400, Some("upstream"), "credentials"),
        ("POST", "/api/provision", json!({ "site": "shop", "upstrem": "http://h:1" }), 400, Some("upstrem"), "unknown field"),
        ("POST", "/api/provision", json!({}), 400, Some("site"), "missing field"),
        ("POST", "/api/provision", json!([]), 400, None, "the body"),
        ("POST", "/api/provision?wait=soon", json!({ "site": "shop" }), 400, Some("wait"), "30s"),
        ("POST", "/api/provision?wiat=1s", json!({ "site": "shop" }), 400, None, "wiat"),
        ("POST", "/api/destroy", json!({ "site": "nobody" }), 404, None, "no site `nobody`"),
        ("POST", "/api/sites/nobody/domain", json!({ "domain": "a.example.com" }), 404, None, "no site `nobody`"),
        ("POST", "/v1/domains", json!({ "domain": "a.example.com", "route": { "site": "nobody" } }), 404, None, "no site `nobody`"),
        (
            "POST",
            "/v1/domains",
            json!({ "domain": "a.example.com", "route": { "site": "x", "tunnel": "y" } }),
            400,
            Some("route"),
            "one of",
        ),
        ("POST", "/v1/domains", json!({ "domain": "a.example.com", "route": { "tunnel": "" } }), 400, Some("tunnel"), "characters"),
        ("POST", "/v1/domains", json!({ "domain": "a.example.com", "route": { "tunnel": "a\u{0}b" } }), 400, Some("tunnel"), "control"),
        ("POST", "/v1/domains", json!({ "domain": "a.example.com", "issuer": "nobody" }), 400, Some("issuer"), "there is: internal"),
        ("POST", "/v1/domains", json!({ "domain": "a.example.com", "failure_policy": "never" }), 400, None, "unknown variant"),
    ];
    for (method, path, body, status, field, words) in cases {
        server.call(method, path, Some(body)).await.refuses(status, field, words);
    }
    server.stop().await;
}

#[tokio::test]
async fn ids_paths_and_methods_that_lead_nowhere_are_problems_too() {
    let server = idle().await;
    let unknown = "0193e9a2-7d1c-7c3a-9f64-2f8e6a1b5c0d";
    let cases = [
        ("GET", "/nothing".to_owned(), 404),
        ("GET", "/api/".to_owned(), 404),
        ("PUT", "/api/sites".to_owned(), 405),
        ("PATCH", "/api/health".to_owned(), 405),
        ("GET", format!("/api/jobs/{unknown}"), 404),
        ("GET", "/api/jobs/7".to_owned(), 400),
        ("GET", format!("/api/jobs/{unknown}/events"), 404),
        ("GET", format!("/v1/domains/{unknown}"), 404),
        ("GET", "/v1/domains/nobody.example.com".to_owned(), 404),
        ("GET", "/v1/domains/..".to_owned(), 404),
        ("GET", "/v1/domains/%00".to_owned(), 400),
        ("GET", "/v1/domains/%ff".to_owned(), 400),
        ("GET", "/api/sites/%2e%2e%2fetc".to_owned(), 400),
        ("GET", "/api/sites/nobody".to_owned(), 404),
        ("DELETE", format!("/v1/admin/tokens/{unknown}"), 404),
    ];
    for (method, path, status) in cases {
        assert_eq!(server.call(method, &path, None).await.status.as_u16(), status, "{method} {path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused_by_what_is_wrong_with_them() {
    let server = idle().await;
    let deep = format!("{{\"site\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let cases: [(&str, Vec<u8>, u16, &str); 8] = [
        ("application/json", b"{".to_vec(), 400, "the body"),
        ("application/json", b"".to_vec(), 400, "the body"),
        ("application/json", b"{\"site\":\"a\"} x".to_vec(), 400, "trailing"),
        ("application/json", b"{\"site\":\"\xff\"}".to_vec(), 400, "UTF-8"),
        ("application/json", deep.into_bytes(), 400, "the body"),
        ("text/plain", b"{\"site\":\"a\"}".to_vec(), 415, "application/json"),
        ("application/x-www-form-urlencoded", b"site=a".to_vec(), 415, "application/json"),
        ("application/json", vec![b' '; (1 << 20) + 1], 413, "longer than"),
    ];
    for (content_type, body, status, words) in cases {
        let request = server.request("POST", "/api/destroy").bearer_auth(&server.admin).header("content-type", content_type).body(body);
        server.answer("POST", "/api/destroy", request).await.refuses(status, None, words);
    }
    let request = server.request("POST", "/api/static/provision").bearer_auth(&server.admin).json(&json!({ "site": "a" }));
    server.answer("POST", "/api/static/provision", request).await.refuses(415, None, "multipart");
    server.stop().await;
}

fn with(build: impl FnOnce(&mut zip::ZipWriter<std::io::Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    build(&mut zip);
    zip.finish().unwrap().into_inner()
}

/// The same archive with another name in place of one of equal length: writers refuse to make such archives.
fn renamed(archive: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = archive;
    for at in 0..=bytes.len() - from.len() {
        if &bytes[at..at + from.len()] == from.as_bytes() {
            bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        }
    }
    bytes
}

#[tokio::test]
async fn archives_that_would_do_harm_are_refused_and_leave_nothing() {
    let server = idle().await;
    let zeros = vec![0; 64 << 20];
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("not a zip", b"hello".to_vec(), "not a ZIP"),
        ("empty file", Vec::new(), "not a ZIP"),
        ("cut off", page()[..40].to_vec(), "not a ZIP"),
        ("no entry", zip_of(&[]), "no file"),
        ("only a folder", with(|zip| zip.add_directory("a", SimpleFileOptions::default()).unwrap()), "no file"),
        ("traversal", renamed(zip_of(&[("aa/evil.html", b"x")]), "aa/evil.html", "../evil.html"), "outside"),
        ("traversal inside", renamed(zip_of(&[("a/bb/cc.html", b"x")]), "a/bb/cc.html", "a/../cc.html"), "outside"),
        ("absolute", renamed(zip_of(&[("xetc/passwd", b"x")]), "xetc/passwd", "/etc/passwd"), "outside"),
        ("backslash", renamed(zip_of(&[("a-evil.html", b"x")]), "a-evil.html", "a\\evil.html"), "outside"),
        ("link", with(|zip| zip.add_symlink("passwd", "/etc/passwd", SimpleFileOptions::default()).unwrap()), "link"),
        ("duplicate", renamed(zip_of(&[("a.html", b"1"), ("b.html", b"2")]), "b.html", "a.html"), "two entries"),
        ("file and folder", zip_of(&[("a", b"1"), ("a/b", b"2")]), "twice"),
        ("bomb", zip_of(&[("zeros", zeros.as_slice())]), "times its packed size"),
    ];
    for (what, archive, words) in cases {
        let answer = server.upload("/api/static/provision", "harm", archive).await;
        assert_eq!(answer.body["type"], "https://certwright.dev/problems/invalid-archive", "{what}: {}", answer.text);
        answer.refuses(400, Some("zip"), words);
        server.assert_no_leftovers();
    }
    server.call("GET", "/api/sites/harm", None).await.refuses(404, None, "no site");
    assert!(!server.dir.path().join("sites/harm").exists());
    server.stop().await;
}

#[tokio::test]
async fn uploads_with_other_parts_are_refused_and_leave_nothing() {
    let server = idle().await;
    let zip = || Part::bytes(page()).file_name("site.zip");
    let forms = [
        (Form::new().part("zip", zip()), Some("site"), "missing"),
        (Form::new().text("site", "docs"), Some("zip"), "missing"),
        (Form::new().text("site", "docs").part("zip", zip()).part("zip", zip()), Some("zip"), "twice"),
        (Form::new().text("site", "docs").part("zip", zip()).text("owner", "me"), Some("owner"), "unknown part"),
        (Form::new().text("site", "Docs").part("zip", zip()), Some("site"), "a site name has"),
        (Form::new().part("zip", zip()).text("site", "x".repeat(300)), Some("site"), "longer"),
    ];
    for (form, field, words) in forms {
        let request = server.request("POST", "/api/static/provision").bearer_auth(&server.admin).multipart(form);
        server.answer("POST", "/api/static/provision", request).await.refuses(400, field, words);
        server.assert_no_leftovers();
    }
    let request = server.request("POST", "/api/static/provision").bearer_auth(&server.admin);
    let broken = request
        .header("content-type", "multipart/form-data; boundary=x")
        .body("--x\r\nContent-Disposition: form-data; name=\"zip\"\r\n\r\nabc");
    server.answer("POST", "/api/static/provision", broken).await.refuses(400, None, "multipart");
    server.assert_no_leftovers();
    server.stop().await;
}

#[tokio::test]
async fn a_declared_size_is_not_believed() {
    let server = idle().await;
    // Stored, so that the sizes in its headers can be found; they say 1 byte more than there is.
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("a.txt", SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored)).unwrap();
    zip.write_all(&[b'q'; 4242]).unwrap();
    let mut bytes = zip.finish().unwrap().into_inner();
    for at in 0..bytes.len() - 4 {
        if bytes[at..at + 4] == 4242u32.to_le_bytes() {
            bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        }
    }
    let answer = server.upload("/api/static/provision", "liar", bytes).await;
    assert_eq!(answer.status, 400, "{}", answer.text);
    server.assert_no_leftovers();
    server.stop().await;
}
