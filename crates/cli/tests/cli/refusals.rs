//! What cannot work is refused with its reason and what to do; wrong usage is exit code 2.

use crate::support::{FREE_PORTS, Ground};
use std::net::TcpListener;

#[test]
fn wrong_settings_are_named() {
    let ground = Ground::new();
    std::fs::write(ground.path("a.toml"), "base_domian = \"x\"\n").unwrap();
    std::fs::write(ground.path("b.toml"), "[[issuer]]\nname = \"corp\"\ndirectory = \"http://ca\"\n").unwrap();
    std::fs::write(ground.path("a-file"), "").unwrap();
    #[rustfmt::skip]
    let table: &[(&[&str], &[&str])] = &[
        (&["serve", "--config", "a.toml"],                         &["a.toml", "`base_domian`", "did you mean `base_domain`?"]),
        (&["serve", "--config", "b.toml"],                         &["`directory`", "corp", "https://"]),
        (&["serve", "--config", "none.toml"],                      &["none.toml"]),
        (&["serve", "--api", "here"],                              &["`api`", "the command line", "127.0.0.1:8443"]),
        (&["serve", "--set", "in_flihgt=3"],                       &["did you mean `in_flight`?"]),
        (&["serve", "--data-dir", "a-file/data"],                  &["a-file/data", "--data-dir"]),
        (&["serve", "--database-url", "mysql://user:hunter2@h/d"], &["database"]),
        (&["serve", "--set", "log_level=shouting=="],              &["log_level"]),
    ];
    for (args, expected) in table {
        let args: Vec<&str> =
            args.iter().copied().chain(if args.contains(&"--api") { &FREE_PORTS[2..] } else { &FREE_PORTS[..] }.iter().copied()).collect();
        let error = ground.run(&args).bad(1);
        for part in *expected {
            assert!(error.contains(part), "{args:?}: {error}");
        }
        assert!(!error.contains("hunter2"), "{error}");
    }
    let variable = ground.command(&["serve"]).env("CERTWRIGHT_HTTPS", "x").output().unwrap();
    assert!(String::from_utf8(variable.stderr).unwrap().contains("`https` (CERTWRIGHT_HTTPS)"));
}

#[test]
fn a_port_that_is_taken_is_named_with_the_flag_that_changes_it() {
    let ground = Ground::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let args: Vec<&str> =
        ["serve", "--https", &address].into_iter().chain(FREE_PORTS.into_iter().filter(|part| *part != "--https").take(4)).collect();
    let error = ground.run(&args).bad(1);
    assert!(error.contains(&address) && error.contains("--https"), "{error}");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let ground = Ground::new();
    #[rustfmt::skip]
    let table: &[&[&str]] = &[
        &[], &["nonsense"], &["site"], &["site", "show"], &["serve", "--set", "x"], &["domain", "add", "x", "--site", "a", "--tunnel", "b"],
        &["probe", "x", "--concurrency", "0"], &["secrets", "rotate-key"], &["site", "destroy", "x", "--wait", "soon"],
    ];
    for args in table {
        ground.run(args).bad(2);
    }
}

#[test]
fn without_a_server_the_commands_say_how_to_reach_one() {
    let ground = Ground::new();
    let error = ground.run(&["site", "list"]).bad(1);
    assert!(error.contains("certwright serve") && error.contains("CERTWRIGHT_URL"), "{error}");
    let nobody = format!("http://{}", certwright_testkit::ports::free_address());
    let error = ground.run(&["site", "list", "--url", &nobody]).bad(1);
    assert!(error.contains("does not answer") && error.contains(&nobody), "{error}");
    assert!(ground.run(&["site", "list", "--url", "example"]).bad(1).contains("not the URL of a server"));
}

#[test]
fn bad_input_is_told_in_the_words_of_the_problem() {
    let ground = Ground::new();
    let _server = ground.serve(&[]);
    std::fs::write(ground.path("no.zip"), "this is no archive").unwrap();
    std::fs::create_dir(ground.path("empty")).unwrap();
    std::fs::create_dir(ground.path("links")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", ground.path("links/x")).unwrap();
    let folder = ground.folder("one");
    #[rustfmt::skip]
    let table: &[(&[&str], &str)] = &[
        (&["site", "add-static", "one", "no.zip"],             "archive"),
        (&["site", "add-static", "one", "empty"],              "holds no files"),
        (&["site", "add-static", "one", "links"],              "link"),
        (&["site", "add-static", "one", "nowhere"],            "nowhere"),
        (&["site", "add-static", "One!", &folder],             "a site name has 1 to 40 characters"),
        (&["site", "add-proxy", "one", "ftp://x"],             "http://host:port"),
        (&["site", "show", "nobody"],                          "there is no site `nobody`"),
        (&["domain", "add", "x.sites.localhost"],              "cannot be a custom domain"),
        (&["domain", "add", "x.localhost", "--issuer", "acme"], "there is: internal"),
        (&["domain", "add", "x.localhost", "--tls-mode", "no"], "`termination`, `passthrough`"),
        (&["domain", "list", "--tls-status", "no"],            "pending_route"),
        (&["job", "show", "no"],                               "job"),
        (&["token", "revoke", "no"],                           "there is no token `no`"),
    ];
    for (args, expected) in table {
        let error = ground.run(args).bad(1);
        assert!(error.starts_with("error: ") && error.contains(expected), "{args:?}: {error}");
    }
}
