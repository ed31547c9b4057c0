//! Static files as a browser, a download manager and an attacker ask for them.

use crate::support::{TestEdge, files, header};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use std::os::unix::fs::symlink;

async fn site() -> TestEdge {
    let edge = TestEdge::start(|_| {}).await;
    edge.host("a.example.com", files("s"));
    edge.write("s", "index.html", "<h1>home</h1>");
    edge.write("s", "style.css", "0123456789");
    edge.write("s", "sub/index.html", "sub");
    edge.write("s", "empty.txt", "");
    edge.write("s", "a b/ü.txt", "odd");
    edge.write("s", ".env", "secret");
    edge.write("s", ".git/config", "secret");
    edge.write("s", ".well-known/security.txt", "contact");
    edge.write("s", "app.js", "plain plain plain");
    edge.write("s", "app.js.br", "brotli");
    edge.write("s", "app.js.gz", "gzip!");
    edge.write("other", "secret.txt", "secret");
    let root = edge.sites.path().join("s/v1");
    symlink("../../other/v1/secret.txt", root.join("leak.txt")).unwrap();
    symlink(edge.sites.path().join("other"), root.join("leak")).unwrap();
    symlink("style.css", root.join("alias.css")).unwrap();
    edge
}

async fn ask(edge: &TestEdge, method: Method, path: &str, headers: &[(&str, &str)]) -> http::Response<bytes::Bytes> {
    let mut request = Request::builder().method(method).uri(path).header("host", "a.example.com");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    edge.send("a.example.com", request.body(Full::default()).unwrap()).await
}

#[tokio::test]
async fn paths_lead_to_files_below_the_root_and_nowhere_else() {
    let edge = site().await;
    #[rustfmt::skip]
    let table = [
        ("/",                            200, "<h1>home</h1>"),
        ("/index.html?v=1",              200, "<h1>home</h1>"),
        ("/style.css",                   200, "0123456789"),
        ("/alias.css",                   200, "0123456789"),
        ("/sub/",                        200, "sub"),
        ("/sub",                         308, "/sub/"),
        ("/sub?a=1",                     308, "/sub/?a=1"),
        ("/a%20b/%C3%BC.txt",            200, "odd"),
        ("/.well-known/security.txt",    200, "contact"),
        ("/empty.txt",                   200, ""),
        ("/style.css/",                  404, ""),
        ("/a%20b/",                      404, ""),
        ("/missing",                     404, ""),
        ("/.env",                        404, ""),
        ("/.git/config",                 404, ""),
        ("/leak.txt",                    404, ""),
        ("/leak/v1/secret.txt",          404, ""),
        ("/../other/v1/secret.txt",      404, ""),
        ("/%2e%2e/%2e%2e/other/v1/secret.txt", 404, ""),
        ("/..%2f..%2fother/v1/secret.txt",     404, ""),
        ("/..%5c..%5cother/v1/secret.txt",     404, ""),
        ("//sub",                        404, ""),
        ("/style.css%00.html",           404, ""),
        ("/%",                           404, ""),
    ];
    for (path, status, expected) in table {
        let response = ask(&edge, Method::GET, path, &[]).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        match status {
            200 => assert_eq!(response.body(), expected, "{path}"),
            308 => assert_eq!(header(&response, "location"), expected, "{path}"),
            _ => assert!(!response.body().as_ref().windows(6).any(|window| window == b"secret"), "{path}"),
        }
    }
    edge.write("s", "404.html", "our own page");
    let response = ask(&edge, Method::GET, "/missing", &[]).await;
    assert_eq!((response.status(), response.body().as_ref()), (StatusCode::NOT_FOUND, &b"our own page"[..]));
    assert_eq!(header(&response, "content-type"), "text/html; charset=utf-8");
}

#[tokio::test]
async fn kinds_and_caching_are_said_and_only_get_and_head_are_answered() {
    let edge = site().await;
    let page = ask(&edge, Method::GET, "/", &[]).await;
    assert_eq!(header(&page, "content-type"), "text/html; charset=utf-8");
    assert_eq!(header(&page, "cache-control"), "public, max-age=0, must-revalidate");
    assert_eq!(header(&page, "x-content-type-options"), "nosniff");
    assert_eq!(header(&page, "strict-transport-security"), "");
    let style = ask(&edge, Method::HEAD, "/style.css", &[]).await;
    assert_eq!(header(&style, "content-type"), "text/css; charset=utf-8");
    assert_eq!(header(&style, "cache-control"), "public, max-age=3600");
    assert_eq!((header(&style, "content-length"), header(&style, "accept-ranges"), style.body().len()), ("10", "bytes", 0));
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let response = ask(&edge, method.clone(), "/style.css", &[]).await;
        assert_eq!((response.status(), header(&response, "allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD"), "{method}");
    }
}

type Headers<'a> = &'a [(&'a str, &'a str)];

#[tokio::test]
async fn conditions_and_ranges_follow_rfc_9110() {
    let edge = site().await;
    let first = ask(&edge, Method::GET, "/style.css", &[]).await;
    let (etag, date) = (header(&first, "etag").to_owned(), header(&first, "last-modified").to_owned());
    let weak = format!("W/{etag}");
    let listed = format!("\"x\", {etag}");
    let old = "Sun, 06 Nov 1994 08:49:37 GMT";
    #[rustfmt::skip]
    let table: &[(Headers<'_>, u16, &str, &str)] = &[
        (&[("if-none-match", &etag)],                                        304, "",           ""),
        (&[("if-none-match", &weak)],                                        304, "",           ""),
        (&[("if-none-match", &listed)],                                      304, "",           ""),
        (&[("if-none-match", "*")],                                          304, "",           ""),
        (&[("if-none-match", "\"x\"")],                                      200, "0123456789", ""),
        (&[("if-none-match", "\"x\""), ("if-modified-since", &date)],        200, "0123456789", ""),
        (&[("if-modified-since", &date)],                                    304, "",           ""),
        (&[("if-modified-since", old)],                                      200, "0123456789", ""),
        (&[("if-modified-since", "yesterday")],                              200, "0123456789", ""),
        (&[("range", "bytes=2-4")],                                          206, "234",        "bytes 2-4/10"),
        (&[("range", "bytes=-2")],                                           206, "89",         "bytes 8-9/10"),
        (&[("range", "bytes=10-")],                                          416, "The file is shorter than that.\n", "bytes */10"),
        (&[("range", "bytes=0-1,4-5")],                                      200, "0123456789", ""),
        (&[("range", "bytes=2-4"), ("if-range", &etag)],                     206, "234",        "bytes 2-4/10"),
        (&[("range", "bytes=2-4"), ("if-range", &date)],                     206, "234",        "bytes 2-4/10"),
        (&[("range", "bytes=2-4"), ("if-range", "\"x\"")],                   200, "0123456789", ""),
        (&[("range", "bytes=2-4"), ("if-range", &weak)],                     200, "0123456789", ""),
        (&[("range", "bytes=2-4"), ("if-range", old)],                       200, "0123456789", ""),
        (&[("range", "bytes=2-4"), ("if-none-match", &etag)],                304, "",           ""),
    ];
    for (headers, status, body, content_range) in table {
        let response = ask(&edge, Method::GET, "/style.css", headers).await;
        assert_eq!((response.status().as_u16(), response.body().as_ref()), (*status, body.as_bytes()), "{headers:?}");
        assert_eq!(header(&response, "content-range"), *content_range, "{headers:?}");
        if *status == 304 {
            assert_eq!((header(&response, "etag"), header(&response, "vary")), (etag.as_str(), "accept-encoding"), "{headers:?}");
        }
    }
}

#[tokio::test]
async fn a_new_content_with_the_same_time_and_size_has_another_etag() {
    let edge = site().await;
    let before = ask(&edge, Method::GET, "/style.css", &[]).await;
    let root = edge.sites.path().join("s");
    std::fs::create_dir(root.join("v2")).unwrap();
    std::fs::write(root.join("v2/style.css"), "9876543210").unwrap();
    let modified = std::fs::metadata(root.join("v1/style.css")).unwrap().modified().unwrap();
    std::fs::File::options().write(true).open(root.join("v2/style.css")).unwrap().set_modified(modified).unwrap();
    let id = edge.certificate(&["a.example.com"]);
    edge.set("a.example.com", certwright_model::edge::EdgeRoute::Files { site: "s".into(), content: "v2".into() }, Some(id));
    let after = ask(&edge, Method::GET, "/style.css", &[("if-none-match", header(&before, "etag"))]).await;
    assert_eq!((after.status(), after.body().as_ref()), (StatusCode::OK, &b"9876543210"[..]));
}

#[tokio::test]
async fn precompressed_siblings_are_chosen_by_what_the_client_takes() {
    let edge = site().await;
    #[rustfmt::skip]
    let table = [
        ("gzip, br",        "br",   "brotli"),
        ("gzip",            "gzip", "gzip!"),
        ("br;q=0.1, gzip",  "gzip", "gzip!"),
        ("identity",        "",     "plain plain plain"),
        ("br;q=0, gzip;q=0", "",    "plain plain plain"),
    ];
    let mut etags = std::collections::HashSet::new();
    for (accept, encoding, body) in table {
        let response = ask(&edge, Method::GET, "/app.js", &[("accept-encoding", accept)]).await;
        assert_eq!((header(&response, "content-encoding"), response.body().as_ref()), (encoding, body.as_bytes()), "{accept}");
        assert_eq!(header(&response, "content-type"), "text/javascript; charset=utf-8", "{accept}");
        assert_eq!(header(&response, "vary"), "accept-encoding", "{accept}");
        etags.insert(header(&response, "etag").to_owned());
    }
    assert_eq!(etags.len(), 3, "each representation has its own");
    let part = ask(&edge, Method::GET, "/app.js", &[("accept-encoding", "br"), ("range", "bytes=0-2")]).await;
    assert_eq!((part.body().as_ref(), header(&part, "content-encoding")), (&b"bro"[..], "br"));
}

#[tokio::test]
async fn a_large_file_arrives_whole_and_in_parts() {
    let edge = site().await;
    let large: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    edge.write("s", "large.bin", &large);
    assert!(ask(&edge, Method::GET, "/large.bin", &[]).await.body() == &large);
    let part = ask(&edge, Method::GET, "/large.bin", &[("range", "bytes=1000000-2499999")]).await;
    assert!(part.status() == StatusCode::PARTIAL_CONTENT && part.body() == &large[1_000_000..2_500_000]);
}
