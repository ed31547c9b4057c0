//! A server and the client commands, from nothing to served and back.

use crate::support::{Ground, visit};

#[test]
fn a_site_and_its_domain_go_the_whole_way_and_back() {
    let ground = Ground::new();
    let server = ground.serve(&[]);
    let folder = ground.folder("<h1>one</h1>");

    assert!(ground.run(&["site", "list"]).good().contains("no sites yet"));
    let made = ground.run(&["site", "add-static", "one", &folder]);
    assert!(made.stderr.contains("probe"), "the steps are shown: {}", made.stderr);
    assert!(made.good().contains("done: ACTIVE, certificate issued"));
    let set = ground.run(&["site", "domain", "set", "one", "shop.localhost", "--output", "json"]).json();
    assert_eq!((set["status"].as_str(), set["cert_status"].as_str()), (Some("DOMAIN_ACTIVE"), Some("issued")));
    assert_eq!(set["job"]["status"], "succeeded");
    let again = ground.run(&["site", "domain", "set", "one", "shop.localhost"]).good();
    assert!(again.contains("nothing changed"), "{again}");

    let root = ground.run(&["ca", "root"]).good();
    assert_eq!(visit("shop.localhost", server.https(), root.as_bytes()).unwrap(), (200, "<h1>one</h1>".into()));
    ground.run(&["ca", "root", "--out", "root.pem"]).good();
    assert_eq!(std::fs::read_to_string(ground.path("root.pem")).unwrap().trim(), root.trim());

    let shown = ground.run(&["domain", "show", "shop.localhost", "--output", "json"]).json();
    assert_eq!(shown["proven"], true);
    let before = ground.run(&["cert", "show", "shop.localhost", "--output", "json"]).json();
    assert_eq!(before["certificate_ref"], shown["certificate_ref"]);
    ground.run(&["cert", "retry", "shop.localhost"]).good();
    let after = ground.run(&["cert", "show", "shop.localhost", "--output", "json"]).json();
    assert_ne!(before["certificate_ref"], after["certificate_ref"]);
    assert!(ground.run(&["cert", "show", "shop.localhost", "--pem"]).good().starts_with("-----BEGIN CERTIFICATE-----"));
    assert_eq!(ground.run(&["domain", "certificates", "shop.localhost", "--output", "json"]).json().as_array().unwrap().len(), 2);
    assert!(!ground.run(&["domain", "history", "shop.localhost", "--output", "json"]).json().as_array().unwrap().is_empty());
    assert!(ground.run(&["doctor"]).good().contains("nothing is wrong"));

    let removed = ground.run(&["site", "domain", "remove", "one"]).good();
    assert!(removed.contains("done: ACTIVE"), "{removed}");
    assert!(visit("shop.localhost", server.https(), root.as_bytes()).is_err());
    assert!(ground.run(&["site", "destroy", "one"]).good().contains("done: DESTROYED"));
    ground.run(&["site", "delete", "one"]).good();
    assert!(ground.run(&["site", "show", "one"]).bad(1).contains("there is no site `one`"));

    let audit = ground.run(&["audit", "list", "--output", "json"]).json();
    assert!(audit.as_array().unwrap().iter().any(|entry| entry["actor"] == "admin" && entry["subject"] == "one"));
    assert!(server.stop().success());
    assert!(!ground.path("certwright-data/server.json").exists());
}

#[test]
fn domains_without_a_site_are_added_one_by_one_and_many_at_once() {
    let ground = Ground::new();
    let _server = ground.serve(&[]);
    ground.run(&["site", "add-static", "one", &ground.folder("one")]).good();
    let added = ground.run(&["domain", "add", "api.localhost", "--site", "one", "--key-type", "ecdsa-p384", "--output", "json"]).json();
    assert_eq!(added["domain"]["key_type"], "ecdsa-p384");
    assert_eq!(added["cert_status"], "issued");
    std::fs::write(ground.path("names.txt"), "# ours\na.localhost\n\nb.localhost\n").unwrap();
    assert!(ground.run(&["domain", "add-many", "names.txt", "--site", "one"]).good().contains("2 added, 0 there already, 0 refused"));
    assert!(ground.run(&["domain", "add-many", "names.txt", "--site", "one"]).good().contains("0 added, 2 there already"));
    std::fs::write(ground.path("names.txt"), "c.localhost\nbad..name\n").unwrap();
    let some = ground.run(&["domain", "add-many", "names.txt", "--site", "one"]);
    assert!(some.stdout.contains("bad..name: ") && some.stdout.contains("1 added"), "{}", some.stdout);
    assert_eq!(some.code, 1);

    let changed = ground.run(&["domain", "set", "api.localhost", "--failure-policy", "strict", "--output", "json"]).json();
    assert_eq!(changed["cert_failure_policy"], "strict");
    let listed = ground.run(&["domain", "list", "--q", "api.", "--output", "json"]).json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(ground.run(&["domain", "list", "--limit", "3", "--output", "json"]).json().as_array().unwrap().len(), 3);
    ground.run(&["domain", "verify", "api.localhost"]).good();
    assert!(ground.run(&["domain", "remove", "api.localhost"]).good().contains("done: it is gone"));
}

#[test]
fn what_a_customer_has_to_do_is_told_at_once_and_is_no_error() {
    let ground = Ground::new();
    // Nobody answers there, and nothing outside of this machine is asked.
    let resolver = certwright_testkit::ports::free_address().to_string();
    let _server = ground.serve(&["--set", &format!("resolvers={resolver}"), "--set", "resolver_timeout=300ms"]);
    ground.run(&["site", "add-static", "one", &ground.folder("one")]).good();
    let set = ground.run(&["site", "domain", "set", "one", "shop.example.com", "--wait", "2s"]).good();
    assert!(set.contains("pending") && set.contains("certwright job follow "), "{set}");
    let status = ground.run(&["site", "domain", "status", "one"]).good();
    assert!(status.contains("_certwright.shop.example.com  TXT  certwright-verify="), "{status}");
    let wrong = ground.run(&["doctor"]);
    assert!(wrong.stdout.contains("shop.example.com") && wrong.stdout.contains("customer"), "{}", wrong.stdout);
    assert_eq!(wrong.code, 0, "it is the customer's move, and nothing is wrong here");
    let quick = ground.run(&["domain", "add", "b.example.com", "--site", "one", "--no-wait", "--output", "json"]).json();
    assert_eq!(quick["domain"]["lifecycle"], "PENDING");
    let jobs = ground.run(&["job", "list", "--site", "one", "--output", "json"]).json();
    let id = jobs.as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned();
    assert!(ground.run(&["job", "show", &id]).good().contains("provision"));
    assert!(ground.run(&["job", "follow", &id]).good().contains("succeeded"));
}

#[test]
fn tokens_are_made_with_a_role_and_end_when_they_are_revoked() {
    let ground = Ground::new();
    let server = ground.serve(&[]);
    let secret = ground.run(&["token", "create", "bob", "--role", "viewer", "--expires", "90d"]).good();
    let as_bob = |args: &[&str]| {
        let mut command = ground.command(args);
        command.env("CERTWRIGHT_TOKEN", secret.trim()).env("CERTWRIGHT_URL", server.url());
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(as_bob(&["site", "list"]).0, 0);
    let (code, error) = as_bob(&["site", "add-proxy", "x", "http://127.0.0.1:3000"]);
    assert!(code == 1 && error.contains("role"), "{error}");
    assert!(ground.run(&["token", "list"]).good().contains("bob"));
    ground.run(&["token", "revoke", "bob"]).good();
    let (code, error) = as_bob(&["site", "list"]);
    assert!(code == 1 && error.contains("CERTWRIGHT_TOKEN") && !error.contains(secret.trim()), "{error}");
    assert!(ground.run(&["token", "create", "x", "--role", "king"]).bad(1).contains("`admin`, `operator`"));
}
