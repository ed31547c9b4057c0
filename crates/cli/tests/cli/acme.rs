//! A server whose issuer is a real ACME CA (Pebble), set up by a settings file as an operator would write it.

use crate::support::{Ground, visit};
use certwright_testkit::dns::DnsServer;
use certwright_testkit::pebble::{Pebble, PebbleOptions};
use certwright_testkit::ports::free_port;

#[test]
fn a_settings_file_with_an_acme_ca_is_all_it_takes() {
    const WHAT: &str = "a server with an ACME CA";
    let ground = Ground::new();
    let Some(dns) = DnsServer::start_or_say(WHAT).unwrap() else { return };
    if Pebble::program_or_say(PebbleOptions::default().binary, WHAT).is_none() {
        return;
    }
    let (http, https) = (free_port(), free_port());
    let options = PebbleOptions { http_port: http, tls_port: https, dns_server: Some(dns.address()), ..PebbleOptions::default() };
    let pebble = Pebble::start(options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let root = runtime.block_on(pebble.root_pem()).unwrap();
    ground.scratch.write("directory-root.pem", pebble.https_root_pem()).unwrap();
    ground.scratch.write("root.pem", &root).unwrap();
    let settings = format!(
        "resolvers = [\"{}\"]\nprobe_roots = [\"root.pem\"]\nissuers = [\"corp\", \"internal\"]\n\n[[issuer]]\nname = \"corp\"\ndirectory = \"{}\"\n\
         contacts = [\"mailto:ops@example.com\"]\nroots_file = \"directory-root.pem\"\nchallenges = [\"http-01\"]\nbudget_burst = 50\n\
         budget_refill_seconds = 1\n",
        dns.address(),
        pebble.directory_url()
    );
    ground.scratch.write("certwright.toml", settings).unwrap();
    let args = ["--http", &format!("127.0.0.1:{http}"), "--https", &format!("127.0.0.1:{https}")];
    let server = ground.serve_on(&args, &[]);
    ground.run(&["site", "add-static", "one", &ground.folder("<h1>acme</h1>")]).good();
    let set = ground.run(&["site", "domain", "set", "one", "shop.customers.example", "--wait", "60s"]).good();
    assert!(set.contains("DOMAIN_ACTIVE, certificate issued"), "{set}");
    let shown = ground.run(&["cert", "show", "shop.customers.example", "--output", "json"]).json();
    assert_eq!(shown["issuer"], "corp");
    assert_eq!(visit("shop.customers.example", server.https(), root.as_bytes()).unwrap(), (200, "<h1>acme</h1>".into()));
    assert!(ground.run(&["doctor"]).good().contains("nothing is wrong"));
}
