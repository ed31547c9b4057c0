//! `certwright demo`: the proof as text and as JSON, and an instance that stays.

use crate::support::{Ground, Server, visit};

#[test]
fn demo_once_prints_what_it_proved() {
    let ground = Ground::new();
    let text = ground.run(&["demo", "--once"]).good();
    for part in [
        "the site `hello` is served over HTTPS",
        "hello.sites.localhost",
        "shop.localhost",
        "sha256:",
        "issuer       internal",
        "not after",
        "dialled      127.0.0.1:",
        "200 https://",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn demo_once_as_json_is_the_proof_and_nothing_else() {
    let ground = Ground::new();
    let proof = ground.run(&["demo", "--once", "--output", "json", "--data-dir", "d"]).json();
    assert_eq!(proof["proven"], true);
    assert_eq!(proof["site"], "hello");
    let domains = proof["domains"].as_array().unwrap();
    let names: Vec<&str> = domains.iter().map(|domain| domain["domain"].as_str().unwrap()).collect();
    assert_eq!(names, ["hello.sites.localhost", "shop.localhost"]);
    for domain in domains {
        assert_eq!(domain["fingerprint"].as_str().unwrap().len(), 71);
        assert_eq!(domain["issuer"], "internal");
        assert_eq!(domain["status"], 200);
        assert!(domain["not_after"].as_str().unwrap().ends_with('Z'));
        assert!(domain["dialled"][0].as_str().unwrap().starts_with("127.0.0.1:"));
    }
    // The folder was given, so it stays; a second run finds its site there and proves it again.
    assert!(ground.path("d/root.pem").exists());
    let again = ground.run(&["demo", "--once", "--output", "json", "--data-dir", "d"]).json();
    assert_eq!(again["proven"], true);
}

#[test]
fn demo_stays_and_a_client_with_the_exported_root_gets_the_page() {
    let ground = Ground::new();
    let mut demo = Server::start(ground.command(&["demo", "--data-dir", "d"]), &ground.path("d"), &ground.path("demo.out"));
    let said = demo.said();
    for part in ["dashboard  http://127.0.0.1:", "admin.token", "curl --cacert ", "--resolve shop.localhost:"] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }
    let root = std::fs::read(ground.path("d/root.pem")).unwrap();
    let edge = said.split("--resolve shop.localhost:").nth(1).unwrap();
    let (port, rest) = edge.split_once(':').unwrap();
    let edge = format!("{}:{port}", rest.split(' ').next().unwrap()).parse().unwrap();
    for host in ["shop.localhost", "hello.sites.localhost"] {
        let (status, page) = visit(host, edge, &root).unwrap();
        assert_eq!(status, 200);
        assert!(page.contains("This page came through the edge"), "{page}");
    }
    assert!(visit("unknown.localhost", edge, &root).is_err());
    let sites = ground.run(&["site", "list", "--data-dir", "d", "--output", "json"]).json();
    assert_eq!(sites[0]["name"], "hello");
    demo.signal("INT");
    assert!(demo.wait().success(), "{}", demo.log());
}
