//! `certwright probe` against a real edge: what is served is told, and judged.

use crate::support::Ground;
use std::io::Write;
use std::process::Stdio;

#[test]
fn a_served_name_is_proven_and_what_is_wrong_is_said() {
    let ground = Ground::new();
    let server = ground.serve(&[]);
    ground.run(&["site", "add-static", "one", &ground.folder("one")]).good();
    let (host, at) = ("one.sites.localhost", server.https().to_string());
    let root = "certwright-data/root.pem";
    let served = ground.run(&["cert", "show", host, "--output", "json"]).json()["certificate_ref"].as_str().unwrap().to_owned();

    let proven = ground.run(&["probe", host, "--address", &at, "--root", root, "--expect", &served, "--output", "json"]).json();
    assert_eq!(proven[0]["ok"], true);
    assert_eq!(proven[0]["sights"][0]["seen"]["Ok"]["certificate_ref"], served);
    // As a customer finds it: by name.
    let port = server.https().port().to_string();
    assert!(ground.run(&["probe", host, "--port", &port, "--root", root]).good().contains("ok"));

    let other = format!("sha256:{}", "0".repeat(64));
    #[rustfmt::skip]
    let table: &[(&str, &[&str], &str)] = &[
        ("without the root",     &["probe", host, "--address", &at],                                     "the chain does not verify"),
        ("another certificate",  &["probe", host, "--address", &at, "--root", root, "--expect", &other], "the database names"),
        ("an unknown name",      &["probe", "x.localhost", "--address", &at, "--root", root],            "unrecognized_name"),
        ("no name at all",       &["probe", "bad..name"],                                                "empty label"),
    ];
    for (case, args, expected) in table {
        let ran = ground.run(args);
        assert_eq!(ran.code, 1, "{case}: {}", ran.stdout);
        assert!(ran.stdout.contains(expected), "{case}: {}", ran.stdout);
    }
    assert!(ground.run(&["probe", host, "--expect", "abc"]).bad(1).contains("sha256:"));
    assert!(ground.run(&["probe", host, "--root", "nowhere.pem"]).bad(1).contains("nowhere.pem"));
}

#[test]
fn a_list_comes_on_standard_input() {
    let ground = Ground::new();
    let server = ground.serve(&[]);
    ground.run(&["site", "add-static", "one", &ground.folder("one")]).good();
    let at = server.https().to_string();
    let mut command = ground.command(&["probe", "--address", &at, "--root", "certwright-data/root.pem", "--output", "json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"# a list\none.sites.localhost\n\nnobody.localhost\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let told: Vec<(&str, bool)> =
        findings.as_array().unwrap().iter().map(|one| (one["host"].as_str().unwrap(), one["ok"].as_bool().unwrap())).collect();
    assert_eq!(told, [("one.sites.localhost", true), ("nobody.localhost", false)]);
    assert!(ground.run(&["probe"]).bad(1).contains("names no host"));
}
