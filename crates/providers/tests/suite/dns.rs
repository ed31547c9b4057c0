//! DNS looks against a real server.

use crate::journal::{host, now};
use certwright_model::answers::LookupStatus;
use certwright_providers::dns::{DnsError, Resolver, ResolverConfig};
use certwright_testkit::dns::DnsServer;
use certwright_testkit::ports::free_address;
use std::net::IpAddr;
use std::time::Duration;
use tokio::net::UdpSocket;

const HOST: &str = "shop.example.com";

fn resolver(server: &DnsServer) -> Resolver {
    Resolver::new(ResolverConfig { servers: vec![server.address()], timeout: Duration::from_secs(3) }).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_brings_both_families_and_the_ownership_record() {
    let Some(dns) = DnsServer::start_or_say("DNS looks").unwrap() else { return };
    dns.set_addresses(HOST, &[ip("192.0.2.1"), ip("192.0.2.2"), ip("2001:db8::1")]).await.unwrap();
    dns.add_txt("_certwright.shop.example.com", "certwright-verify=abc").await.unwrap();
    let resolver = resolver(&dns);
    let at = now();
    let sight = resolver.look(&host(HOST), at).await;
    assert_eq!((sight.at, sight.status), (at, LookupStatus::Found));
    let mut addresses = sight.addresses.clone();
    addresses.sort();
    assert_eq!(addresses, [ip("192.0.2.1"), ip("192.0.2.2"), ip("2001:db8::1")]);
    assert_eq!(sight.ownership_txt, Some(vec!["certwright-verify=abc".to_owned()]));
    assert!(sight.cnames.is_empty());

    // Nothing is remembered.
    dns.set_addresses(HOST, &[ip("192.0.2.9")]).await.unwrap();
    dns.clear_txt("_certwright.shop.example.com").await.unwrap();
    let sight = resolver.look(&host(HOST), at).await;
    assert_eq!((sight.addresses, sight.ownership_txt), (vec![ip("192.0.2.9")], Some(vec![])));
    assert_eq!(resolver.addresses(&host(HOST)).await, Ok(vec![ip("192.0.2.9")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn cname_targets_are_lower_case_without_the_dot() {
    let Some(dns) = DnsServer::start_or_say("DNS looks").unwrap() else { return };
    dns.set_cname(HOST, "Edge.Example.NET").await.unwrap();
    dns.set_addresses("edge.example.net", &[ip("192.0.2.1")]).await.unwrap();
    dns.set_addresses("Edge.Example.NET", &[ip("192.0.2.1")]).await.unwrap();
    let sight = resolver(&dns).look(&host(HOST), now()).await;
    assert_eq!(sight.cnames, ["edge.example.net"]);
    assert_eq!((sight.status, sight.addresses), (LookupStatus::Found, vec![ip("192.0.2.1")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_is_looked_up_a_label_below_and_owned_at_its_parent() {
    let Some(dns) = DnsServer::start_or_say("DNS looks").unwrap() else { return };
    dns.set_addresses("certwright-probe.example.com", &[ip("192.0.2.7")]).await.unwrap();
    dns.add_txt("_certwright.example.com", "certwright-verify=abc").await.unwrap();
    let sight = resolver(&dns).look(&host("*.example.com"), now()).await;
    assert_eq!(sight.addresses, [ip("192.0.2.7")]);
    assert_eq!(sight.ownership_txt, Some(vec!["certwright-verify=abc".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_silence_are_told_apart() {
    let Some(dns) = DnsServer::start_or_say("DNS looks").unwrap() else { return };
    dns.set_servfail(HOST).await.unwrap();
    let sight = resolver(&dns).look(&host(HOST), now()).await;
    assert_eq!(sight.status, LookupStatus::Failed);
    assert_eq!(resolver(&dns).addresses(&host(HOST)).await, Err(DnsError::Failed(host(HOST))));

    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let servers = vec![silent.local_addr().unwrap()];
    let patient = Resolver::new(ResolverConfig { servers, timeout: Duration::from_millis(400) }).unwrap();
    let sight = patient.look(&host(HOST), now()).await;
    assert_eq!((sight.status, sight.ownership_txt), (LookupStatus::Timeout, None));

    let nobody = Resolver::new(ResolverConfig { servers: vec![free_address()], timeout: Duration::from_millis(400) }).unwrap();
    assert_eq!(nobody.look(&host(HOST), now()).await.status, LookupStatus::Timeout);
}

/// The challenge server cannot say NXDOMAIN, so these two answers are made by hand: the question with a code in the header.
#[tokio::test]
async fn a_missing_name_and_a_name_without_an_address_are_told_apart() {
    for (code, expected) in [(3u8, LookupStatus::NoName), (0, LookupStatus::NoAddress)] {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let servers = vec![socket.local_addr().unwrap()];
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((count, from)) = socket.recv_from(&mut buffer).await {
                let mut reply = buffer[..count].to_vec();
                reply[2] |= 0x80;
                reply[3] = 0x80 | code;
                socket.send_to(&reply, from).await.unwrap();
            }
        });
        let resolver = Resolver::new(ResolverConfig { servers, timeout: Duration::from_secs(3) }).unwrap();
        let sight = resolver.look(&host(HOST), now()).await;
        assert_eq!((sight.status, sight.ownership_txt), (expected, Some(vec![])));
    }
}
