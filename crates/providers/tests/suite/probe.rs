//! The prober against peers that are right, or wrong in one way each.

use crate::fake_ca::self_signed;
use crate::journal::{host, now};
use crate::servers;
use certwright_model::ReasonCode;
use certwright_model::certificate::KeyType;
use certwright_model::wire::{DialFailure, Failed, Path, Served, Sight, judge};
use certwright_providers::dns::{Resolver, ResolverConfig};
use certwright_providers::probe::{ProbeConfig, ProbeError, Prober};
use certwright_providers::x509;
use certwright_testkit::dns::DnsServer;
use certwright_testkit::ports::free_address;
use std::net::SocketAddr;
use std::time::Duration;

const HOST: &str = "a.example.com";

fn prober(roots: &[&[u8]]) -> Prober {
    let roots_der = roots.iter().map(|root| root.to_vec()).collect();
    Prober::new(ProbeConfig { roots_der, system_roots: false, timeout: Duration::from_millis(1500), ..ProbeConfig::default() }).unwrap()
}

async fn dial(prober: &Prober, name: &str, address: SocketAddr) -> Sight {
    prober.dial(&host(name), address, Path::Edge, now()).await
}

#[track_caller]
fn served(sight: &Sight) -> &Served {
    sight.seen.as_ref().unwrap()
}

#[track_caller]
fn failure(sight: Sight) -> DialFailure {
    let Err(Failed { failure, detail }) = sight.seen else { panic!("{sight:?}") };
    assert!(!detail.is_empty());
    failure
}

#[tokio::test]
async fn a_good_leaf_is_seen_whole_and_judged_green() {
    let ca = servers::ca().await;
    let prober = prober(&[ca.root_der()]);
    for key_type in [KeyType::EcdsaP256, KeyType::EcdsaP384, KeyType::Rsa2048] {
        let (issued, key) = servers::certify(&ca, &[HOST], key_type).await;
        let address = servers::serve(servers::certified(&issued.chain_der, &key)).await;
        let sight = dial(&prober, HOST, address).await;
        let seen = served(&sight);
        assert_eq!(seen.certificate_ref, issued.facts.certificate_ref);
        assert_eq!((seen.not_before, seen.not_after), (issued.facts.not_before, issued.facts.not_after));
        assert_eq!((seen.key_type, seen.names.as_slice()), (key_type, [HOST.to_owned()].as_slice()));
        assert_eq!((seen.tls_version.as_str(), seen.alpn.as_deref()), ("TLSv1.3", Some("h2")));
        assert_eq!(seen.chain_problem, None);
        assert_eq!(sight.dialled, address.to_string());
        assert_eq!(judge(&[sight], &host(HOST), Some(&issued.facts.certificate_ref), now()), Ok(()));
    }
}

#[tokio::test]
async fn a_server_of_yesterday_is_proven_over_tls_1_2() {
    let ca = servers::ca().await;
    let (issued, key) = servers::certify(&ca, &[HOST], KeyType::EcdsaP256).await;
    let address = servers::serve_version(servers::certified(&issued.chain_der, &key), &rustls::version::TLS12).await;
    let sight = dial(&prober(&[ca.root_der()]), HOST, address).await;
    assert_eq!(served(&sight).tls_version, "TLSv1.2");
}

#[tokio::test]
async fn a_wrong_leaf_is_captured_and_judged() {
    let ca = servers::ca().await;
    let prober = prober(&[ca.root_der()]);
    let (wanted, _) = servers::certify(&ca, &[HOST], KeyType::EcdsaP256).await;
    let (other, other_key) = servers::certify(&ca, &[HOST], KeyType::EcdsaP256).await;
    let (wrong_name, wrong_name_key) = servers::certify(&ca, &["b.example.com"], KeyType::EcdsaP256).await;
    let own_key = x509::key_pair(KeyType::EcdsaP256).unwrap();
    let own = |years| x509::chain_from_pem(&self_signed(&own_key, &[HOST], years)).unwrap();
    let (current, expired, future) = (own((2020, 2120)), own((2020, 2021)), own((2100, 2120)));
    let alone = [other.chain_der[0].clone()];
    type Case<'a> = (&'a str, &'a [Vec<u8>], &'a [u8], bool, ReasonCode, &'a str);
    #[rustfmt::skip]
    let table: Vec<Case<'_>> = vec![
        ("another leaf",     &other.chain_der,      &other_key,      true,  ReasonCode::WireOtherCertificate, "the database names"),
        ("another name",     &wrong_name.chain_der, &wrong_name_key, false, ReasonCode::WireInvalid,          "b.example.com"),
        ("self-signed",      &current,              &own_key,        false, ReasonCode::WireInvalid,          "does not verify"),
        ("expired",          &expired,              &own_key,        false, ReasonCode::WireInvalid,          "expired"),
        ("not yet",          &future,               &own_key,        false, ReasonCode::WireInvalid,          "not valid before"),
        ("no intermediate",  &alone,                &other_key,      false, ReasonCode::WireInvalid,          "without the intermediate"),
    ];
    for (name, chain, key, compare, code, word) in table {
        let address = servers::serve(servers::certified(chain, key)).await;
        let sight = dial(&prober, HOST, address).await;
        assert_eq!(served(&sight).certificate_ref, x509::reference_of(&chain[0]), "{name}");
        let expected = compare.then_some(&wanted.facts.certificate_ref);
        let reason = judge(&[sight], &host(HOST), expected, now()).unwrap_err();
        assert_eq!(reason.code, code, "{name}: {reason:?}");
        assert!(reason.message.contains(word), "{name}: {reason:?}");
    }
}

#[tokio::test]
async fn a_root_that_is_added_is_trusted_from_then_on_by_every_clone() {
    let ca = servers::ca().await;
    let prober = prober(&[]);
    let clone = prober.clone();
    let (issued, key) = servers::certify(&ca, &[HOST], KeyType::EcdsaP256).await;
    let address = servers::serve(servers::certified(&issued.chain_der, &key)).await;
    assert!(served(&dial(&clone, HOST, address).await).chain_problem.is_some());
    prober.add_roots(&[ca.root_der().to_vec()]).unwrap();
    assert_eq!(served(&dial(&clone, HOST, address).await).chain_problem, None);
    assert!(matches!(prober.add_roots(&[vec![1, 2, 3]]), Err(ProbeError::Root(_))));
    assert_eq!(served(&dial(&clone, HOST, address).await).chain_problem, None);
}

#[tokio::test]
async fn what_shows_no_certificate_is_told_apart() {
    let ca = servers::ca().await;
    let prober = prober(&[ca.root_der()]);
    let (issued, key) = servers::certify(&ca, &["b.example.com"], KeyType::EcdsaP256).await;
    let handshake_failure: &[u8] = &[0x15, 3, 3, 0, 2, 2, 40];
    let unrecognized_name: &[u8] = &[0x15, 3, 3, 0, 2, 2, 112];
    let table = [
        (DialFailure::Refused, free_address()),
        (DialFailure::NotTls, servers::serve_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n").await),
        (DialFailure::NotTls, servers::serve_bytes(b"\x00\x01\x02\x03garbage that is no TLS record").await),
        (DialFailure::NotTls, servers::serve_bytes(b"220 mail.example.com ESMTP\r\n").await),
        (DialFailure::Reset, servers::serve_bytes(b"").await),
        (DialFailure::Reset, servers::serve_reset().await),
        (DialFailure::UnknownName, servers::serve_bytes(unrecognized_name).await),
        (DialFailure::Handshake, servers::serve_bytes(handshake_failure).await),
        (DialFailure::Handshake, servers::serve_only("b.example.com", servers::certified(&issued.chain_der, &key)).await),
    ];
    for (expected, address) in table {
        let sight = dial(&prober, HOST, address).await;
        assert_eq!(failure(sight), expected, "{address}");
    }
}

#[tokio::test]
async fn a_peer_that_accepts_and_says_nothing_costs_its_own_slot_only() {
    let ca = servers::ca().await;
    let prober = prober(&[ca.root_der()]);
    let silent = servers::serve_silence().await;
    let (issued, key) = servers::certify(&ca, &[HOST], KeyType::EcdsaP256).await;
    let good = servers::serve(servers::certified(&issued.chain_der, &key)).await;
    let waiting: Vec<_> = (0..64)
        .map(|_| {
            let prober = prober.clone();
            tokio::spawn(async move { dial(&prober, HOST, silent).await })
        })
        .collect();
    for _ in 0..20 {
        served(&dial(&prober, HOST, good).await);
    }
    assert!(waiting.iter().all(|task| !task.is_finished()));
    for task in waiting {
        assert_eq!(failure(task.await.unwrap()), DialFailure::Timeout);
    }
}

#[tokio::test]
async fn a_wildcard_is_proven_by_a_name_below_it() {
    let ca = servers::ca().await;
    let (issued, key) = servers::certify(&ca, &["*.example.com"], KeyType::EcdsaP256).await;
    let address = servers::serve_only("certwright-probe.example.com", servers::certified(&issued.chain_der, &key)).await;
    let sight = dial(&prober(&[ca.root_der()]), "*.example.com", address).await;
    assert_eq!(judge(&[sight], &host("*.example.com"), Some(&issued.facts.certificate_ref), now()), Ok(()));
}

#[tokio::test]
async fn addresses_from_dns_are_dialled_only_where_they_are_public() {
    let prober = prober(&[]);
    let address = free_address();
    let through_dns = |name: &'static str| {
        let prober = prober.clone();
        async move { failure(prober.dial(&host(name), address, Path::Dns, now()).await) }
    };
    assert_eq!(through_dns(HOST).await, DialFailure::NotAllowed);
    assert_eq!(through_dns("a.localhost").await, DialFailure::Refused);
    assert_eq!(failure(dial(&prober, HOST, address).await), DialFailure::Refused, "the edge's own address is the operator's word");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_dials_the_edge_and_what_dns_gives_each_once() {
    let Some(dns) = DnsServer::start_or_say("the prober through DNS").unwrap() else { return };
    let resolver = Resolver::new(ResolverConfig { servers: vec![dns.address()], timeout: Duration::from_secs(3) }).unwrap();
    let ca = servers::ca().await;
    let roots_der = vec![ca.root_der().to_vec()];
    let open = Prober::new(ProbeConfig { roots_der, system_roots: false, allow_private: true, ..ProbeConfig::default() }).unwrap();
    let (issued, key) = servers::certify(&ca, &[HOST], KeyType::EcdsaP256).await;
    let edge = servers::serve(servers::certified(&issued.chain_der, &key)).await;
    let expected = Some(&issued.facts.certificate_ref);
    let name = host(HOST);
    let look = || open.look(&name, Some(edge), Some((&resolver, edge.port())), now());

    dns.set_addresses(HOST, &["127.0.0.1".parse().unwrap()]).await.unwrap();
    let sights = look().await;
    assert_eq!(sights.iter().map(|sight| sight.path).collect::<Vec<_>>(), [Path::Edge]);
    assert_eq!(judge(&sights, &host(HOST), expected, now()), Ok(()));

    // Also elsewhere, where nobody listens: the edge is right and DNS is not.
    dns.set_addresses(HOST, &["127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap()]).await.unwrap();
    let sights = look().await;
    assert_eq!(sights.iter().map(|sight| sight.path).collect::<Vec<_>>(), [Path::Edge, Path::Dns]);
    assert_eq!(judge(&sights, &host(HOST), expected, now()).unwrap_err().code, ReasonCode::WireDnsPath);

    dns.set_servfail(HOST).await.unwrap();
    let sights = look().await;
    assert_eq!(sights.len(), 2);
    assert_eq!(sights[1].seen.as_ref().unwrap_err().failure, DialFailure::NoAddress);
    assert_eq!(sights[1].dialled, HOST);
}
