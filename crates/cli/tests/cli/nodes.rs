//! Two nodes on one PostgreSQL database, and the settings of the internal CA as they reach a certificate.

use crate::support::{Ground, visit};
use certwright_testkit::postgres::Database;
use jiff::Timestamp;

#[test]
fn what_one_node_is_asked_for_the_other_serves_too() {
    let Some(database) = Database::from_environment("two nodes on PostgreSQL").unwrap() else { return };
    let (one, two) = (Ground::new(), Ground::new());
    let url = database.url();
    let first = one.serve_with(&[], &[("DATABASE_URL", &url)]);
    // One key for both, as an operator would hand it out.
    std::fs::create_dir_all(two.path("certwright-data")).unwrap();
    std::fs::copy(one.path("certwright-data/kek"), two.path("certwright-data/kek")).unwrap();
    let second = two.serve_with(&[], &[("DATABASE_URL", &url)]);
    one.run(&["site", "add-proxy", "app", "http://127.0.0.1:9", "--wait", "60s"]).good();
    let warnings = one.run(&["site", "show", "app", "--output", "json"]).json()["warnings"].to_string();
    assert!(warnings.contains("upstream_unreachable"), "nobody listens there: {warnings}");
    let added =
        one.run(&["domain", "add", "shop.localhost", "--upstream", "http://127.0.0.1:9", "--wait", "60s", "--output", "json"]).json();
    assert_eq!(added["cert_status"], "issued");
    let token = std::fs::read_to_string(one.path("certwright-data/admin.token")).unwrap();
    let output = two.command(&["domain", "list", "--output", "json"]).env("CERTWRIGHT_TOKEN", token.trim()).output().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(listed.as_array().unwrap().iter().any(|domain| domain["domain"] == "shop.localhost"));
    let root = std::fs::read(two.path("certwright-data/root.pem")).unwrap();
    assert_eq!(root, std::fs::read(one.path("certwright-data/root.pem")).unwrap());
    for edge in [first.https(), second.https()] {
        let mut tries = 0;
        // The other node hears of it through the database's feed. Nobody listens upstream: the edge says 502, over good TLS.
        while !visit("shop.localhost", edge, &root).is_ok_and(|(status, _)| status == 502) {
            tries += 1;
            assert!(tries < 100, "{edge} does not serve the name");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
    assert!(first.stop().success() && second.stop().success());
}

#[test]
fn the_lifetime_that_is_set_is_that_of_the_certificate() {
    let ground = Ground::new();
    ground.scratch.write("certwright.toml", "[[issuer]]\nname = \"internal\"\nlifetime = \"10m\"\nkey_type = \"ecdsa-p384\"\n").unwrap();
    let _server = ground.serve(&[]);
    ground.run(&["site", "add-static", "one", &ground.folder("one")]).good();
    let shown = ground.run(&["cert", "show", "one.sites.localhost", "--output", "json"]).json();
    let at = |name: &str| shown[name].as_str().unwrap().parse::<Timestamp>().unwrap();
    let lifetime = at("not_after").duration_since(at("not_before")).as_secs();
    assert!((600..=660).contains(&lifetime), "{lifetime} s");
}
