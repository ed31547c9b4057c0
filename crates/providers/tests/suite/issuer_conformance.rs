//! What every issuer has to do, whatever stands behind it.

use crate::journal::{Call, Crash, Journal, host, issue, issue_order, issued, now, order, request, soon};
use crate::responder::Answers;
use crate::stores::CaKeys;
use certwright_model::certificate::KeyType;
use certwright_model::record::OrderStage;
use certwright_providers::issuer::internal::{InternalConfig, InternalIssuer};
use certwright_providers::issuer::{IssueProgress, Issuer};
use certwright_providers::{Outcome, x509};
use jiff::SignedDuration;

pub async fn every_key_type_is_certified(issuer: &dyn Issuer, answers: &Answers) {
    for key_type in [KeyType::EcdsaP256, KeyType::EcdsaP384, KeyType::Rsa2048] {
        let order = order(issuer, key_type);
        let names = ["shop.example.com", "www.shop.example.com"];
        let got = issued(issue_order(issuer, answers, order.clone(), &names).await);
        assert_eq!(got.facts.key_type, key_type);
        assert_eq!(got.facts.issuer, issuer.name());
        assert!(names.iter().all(|name| got.facts.covers(&host(name))), "{:?}", got.facts.names);
        assert!(got.facts.is_current(now()));
        let leaf = rustls::pki_types::CertificateDer::from(got.chain_der[0].as_slice());
        let ari_id = instant_acme::CertificateIdentifier::try_from(&leaf).unwrap().to_string();
        assert_eq!(got.facts.ari_id, Some(ari_id), "RFC 9773, as another reader has it");
        assert!(got.chain_der.len() >= 2, "the intermediate is part of it");
        assert!(x509::public_key_matches(&got.chain_der[0], &order.key_pkcs8_der));
        assert_eq!(x509::chain_from_pem(&got.chain_pem).unwrap(), got.chain_der);
        assert_eq!(x509::facts_of(&got.chain_der, issuer.name()).unwrap(), got.facts);
    }
}

/// The crash is a journal that fails, before or after it stored; the process then starts again from what is stored.
pub async fn a_crash_at_each_step_is_resumed(issuer: &dyn Issuer, answers: &Answers, calls: &[Call]) {
    for (number, call) in calls.iter().enumerate() {
        for (suffix, crash) in [("before", Crash::Before(*call)), ("after", Crash::After(*call))] {
            let name = format!("crash{number}-{suffix}.example.com");
            let order = order(issuer, KeyType::EcdsaP256);
            let journal = Journal::crashing(order.clone(), answers, crash);
            let outcome = issuer.issue(&request(order, &[&name]), &journal, now(), soon()).await;
            assert!(matches!(outcome, Outcome::Unknown(_)), "{crash:?}: {outcome:?}");
            assert_eq!(journal.calls.lock().unwrap().last(), Some(call), "nothing follows a journal that failed");

            let stored = journal.order();
            let url = stored.order_url.clone();
            let again = Journal::new(stored.clone(), answers);
            let got = issued(issuer.issue(&request(stored.clone(), &[&name]), &again, now(), soon()).await);
            assert!(x509::public_key_matches(&got.chain_der[0], &stored.key_pkcs8_der), "{crash:?}");
            if url.is_some() {
                assert_eq!(again.order().order_url, url, "{crash:?}: the stored order was carried on");
                assert!(!again.calls.lock().unwrap().contains(&Call::Placed), "{crash:?}");
            }
        }
    }
}

/// The process died after the CA had signed and before the certificate was stored: the same one is fetched again.
pub async fn a_certificate_that_was_not_stored_is_fetched_again(issuer: &dyn Issuer, answers: &Answers) {
    let order = order(issuer, KeyType::EcdsaP256);
    let journal = Journal::new(order.clone(), answers);
    let names = ["again.example.com"];
    let first = issued(issuer.issue(&request(order, &names), &journal, now(), soon()).await);
    let stored = journal.order();
    assert_eq!(stored.stage, OrderStage::Finalizing);
    let second = issued(issue_order(issuer, answers, stored, &names).await);
    assert_eq!(first.facts.certificate_ref, second.facts.certificate_ref);
}

async fn internal(config: InternalConfig) -> InternalIssuer {
    InternalIssuer::open(config, &CaKeys::default(), now()).await.unwrap()
}

#[tokio::test]
async fn the_internal_ca_conforms() {
    let issuer = internal(InternalConfig::default()).await;
    let answers = Answers::default();
    every_key_type_is_certified(&issuer, &answers).await;
    a_crash_at_each_step_is_resumed(&issuer, &answers, &[Call::Finalizing]).await;
    assert_eq!(issuer.check().await, Ok(()));
    let facts = issued(issue(&issuer, &answers, &["a.example.com"]).await).facts;
    assert_eq!(issuer.renewal_info(&facts, now(), 0.5).await, Outcome::Applied(None));
}

#[tokio::test]
async fn the_internal_ca_is_made_once_and_by_one_of_several_nodes() {
    let store = CaKeys::default();
    let open = || InternalIssuer::open(InternalConfig::default(), &store, now());
    let (one, other) = tokio::join!(open(), open());
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.root_pem(), other.root_pem());
    let again = open().await.unwrap();
    assert_eq!(again.root_pem(), one.root_pem());
    let leaf = issued(issue(&again, &Answers::default(), &["a.example.com"]).await);
    let chain: Vec<_> = leaf.chain_der.iter().cloned().map(rustls::pki_types::CertificateDer::from).collect();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(one.root_der().to_vec().into()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
    let at = rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(now().as_second().try_into().unwrap()));
    let name = rustls::pki_types::ServerName::try_from("a.example.com").unwrap();
    use rustls::client::danger::ServerCertVerifier as _;
    verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], at).unwrap();
}

#[tokio::test]
async fn the_internal_ca_takes_a_larger_curve_and_names_itself() {
    let config = InternalConfig { ca_key_type: KeyType::EcdsaP384, organization: "Acme, Inc.".into(), ..InternalConfig::default() };
    let issuer = internal(config).await;
    let root = x509::facts_of(&[issuer.root_der().to_vec()], "internal").unwrap();
    assert_eq!(root.key_type, KeyType::EcdsaP384);
    let facts = issued(issue(&issuer, &Answers::default(), &["*.example.com"]).await).facts;
    assert!(facts.covers(&host("*.example.com")) && facts.covers(&host("a.example.com")));
    assert!(facts.issuer_dn.starts_with("CN=Acme\\, Inc. Intermediate CA "), "{}", facts.issuer_dn);
    assert!(facts.issuer_dn.ends_with(",O=Acme\\, Inc."), "{}", facts.issuer_dn);
    assert_eq!(facts.serial.len(), 32);
}

#[tokio::test]
async fn a_lifetime_of_minutes_is_not_mostly_past_when_it_is_signed() {
    let config = InternalConfig { lifetime: SignedDuration::from_mins(5), ..InternalConfig::default() };
    let issuer = internal(config).await;
    let at = now();
    let facts = issued(issue(&issuer, &Answers::default(), &["a.example.com"]).await).facts;
    assert!(facts.not_before <= at && facts.not_before >= at - SignedDuration::from_secs(31));
    let left = facts.not_after.duration_since(at);
    assert!(left > SignedDuration::from_secs(295) && left < SignedDuration::from_secs(330), "{left:?}");
}

#[tokio::test]
async fn a_leaf_never_outlives_the_intermediate() {
    let issuer = internal(InternalConfig::default()).await;
    let mut asked = request(order(&issuer, KeyType::EcdsaP256), &["a.example.com"]);
    asked.lifetime_hint = Some(SignedDuration::from_hours(24 * 3650));
    let journal = Journal::new(asked.order.clone(), &Answers::default());
    let outcome = issuer.issue(&asked, &journal, now(), soon()).await;
    let Outcome::Applied(IssueProgress::Issued(got)) = outcome else { panic!("{outcome:?}") };
    let above = x509::facts_of(&got.chain_der[1..], "internal").unwrap();
    assert_eq!(got.facts.not_after, above.not_after);
}
