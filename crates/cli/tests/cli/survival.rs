//! Restarts, a process that dies in the middle, other keys, a lost token: what was asked for is still there and goes on.

use crate::support::{Ground, visit};
use std::os::unix::process::ExitStatusExt;

#[test]
fn a_restart_serves_the_same_certificate_and_keeps_the_token() {
    let ground = Ground::new();
    let server = ground.serve(&[]);
    ground.run(&["site", "add-static", "one", &ground.folder("one")]).good();
    let token = std::fs::read(ground.path("certwright-data/admin.token")).unwrap();
    let before = ground.run(&["cert", "show", "one.sites.localhost", "--output", "json"]).json();
    assert!(server.stop().success());

    let server = ground.serve(&[]);
    let root = std::fs::read(ground.path("certwright-data/root.pem")).unwrap();
    assert_eq!(visit("one.sites.localhost", server.https(), &root).unwrap().0, 200);
    let after = ground.run(&["cert", "show", "one.sites.localhost", "--output", "json"]).json();
    assert_eq!(before["certificate_ref"], after["certificate_ref"]);
    assert_eq!(std::fs::read(ground.path("certwright-data/admin.token")).unwrap(), token);
}

#[test]
fn a_process_that_dies_in_the_middle_goes_on_where_it_was() {
    for point in ["issue:before:1", "issue:after:1", "probe:before:1", "commit:after:1"] {
        let ground = Ground::new();
        let mut server = ground.serve_with(&["--set", "lease=3s", "--set", "issue_deadline=2s"], &[("CERTWRIGHT_TEST_ABORT_AT", point)]);
        ground.run(&["site", "add-static", "one", &ground.folder("one"), "--no-wait"]);
        assert_eq!(server.wait().signal(), Some(6), "{point}: {}", server.log());

        let server = ground.serve(&["--set", "lease=3s", "--set", "issue_deadline=2s"]);
        let jobs = ground.run(&["job", "list", "--output", "json"]).json();
        let id = jobs[0]["id"].as_str().unwrap().to_owned();
        assert!(ground.run(&["job", "follow", &id]).good().contains("succeeded"), "{point}");
        let root = std::fs::read(ground.path("certwright-data/root.pem")).unwrap();
        assert_eq!(visit("one.sites.localhost", server.https(), &root).unwrap().0, 200, "{point}");
        let certificates = ground.run(&["domain", "certificates", "one.sites.localhost", "--output", "json"]).json();
        assert_eq!(certificates.as_array().unwrap().len(), 1, "{point}: one certificate for one need");
    }
}

#[test]
fn the_key_is_rotated_and_only_the_new_one_opens_the_database() {
    let ground = Ground::new();
    let server = ground.serve(&[]);
    ground.run(&["site", "add-static", "one", &ground.folder("one")]).good();
    assert!(server.stop().success());
    let told = ground.run(&["secrets", "rotate-key", "--to-file", "new-kek"]).good();
    assert!(told.contains("kek_file = \"new-kek\""), "{told}");
    assert!(ground.run(&["secrets", "rotate-key", "--to-file", "third"]).bad(1).contains("key"));
    let server = ground.serve(&["--set", "kek_file=new-kek"]);
    let root = std::fs::read(ground.path("certwright-data/root.pem")).unwrap();
    assert_eq!(visit("one.sites.localhost", server.https(), &root).unwrap().0, 200);
}

#[test]
fn a_lost_administrators_token_is_replaced_on_request_alone() {
    let ground = Ground::new();
    assert!(ground.serve(&[]).stop().success());
    let path = ground.path("certwright-data/admin.token");
    let old = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let server = ground.serve(&[]);
    assert!(server.log().contains("certwright token reset"), "{}", server.log());
    assert!(!path.exists());
    ground.run(&["token", "reset"]).good();
    assert_ne!(std::fs::read_to_string(&path).unwrap(), old);
    ground.run(&["site", "list"]).good();
    let stale = ground.command(&["site", "list"]).env("CERTWRIGHT_TOKEN", old.trim()).output().unwrap();
    assert_eq!(stale.status.code(), Some(1));
}
