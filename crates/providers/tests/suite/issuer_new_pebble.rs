//! What Debian's Pebble does not know: ARI with `replaces`, profiles, a set `Retry-After`.

use crate::issuer_pebble::World;
use crate::journal::{issue, issue_order, issued, now, order, rejected};
use certwright_model::ReasonCode;
use certwright_model::certificate::KeyType;
use certwright_providers::Outcome;
use certwright_providers::issuer::Issuer;
use certwright_providers::issuer::acme::AcmeConfig;
use certwright_testkit::pebble::{PebbleBinary, PebbleOptions, SHORT_PROFILE, SHORT_PROFILE_VALIDITY};
use jiff::SignedDuration;

async fn newest(options: PebbleOptions) -> Option<World> {
    World::start("ARI and profiles", PebbleOptions { binary: PebbleBinary::New, ..options }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_renewal_window_is_read_and_a_replaced_certificate_is_replaced_once() {
    let Some(world) = newest(PebbleOptions::default()).await else { return };
    let issuer = world.issuer(world.config());
    let answers = &world.responder.answers;
    let first = issued(issue(&issuer, answers, &["a.example.com"]).await).facts;

    let Outcome::Applied(Some(window)) = issuer.renewal_info(&first, now(), 0.5).await else { panic!("no window") };
    assert!(window.start < window.end && window.start <= window.selected && window.selected <= window.end);
    assert!(first.not_before < window.start && window.end < first.not_after);
    assert!(window.poll_at > now());

    let mut renewal = order(&issuer, KeyType::EcdsaP256);
    renewal.replaces = first.ari_id.clone();
    let second = issued(issue_order(&issuer, answers, renewal.clone(), &["a.example.com"]).await).facts;
    assert_ne!(second.certificate_ref, first.certificate_ref);

    // 409 alreadyReplaced: the same again is ordered without `replaces`.
    renewal.key_pkcs8_der = certwright_providers::x509::key_pair(KeyType::EcdsaP256).unwrap();
    let third = issued(issue_order(&issuer, answers, renewal, &["a.example.com"]).await).facts;
    assert_ne!(third.certificate_ref, second.certificate_ref);
}

#[tokio::test(flavor = "multi_thread")]
async fn replacing_what_the_ca_never_issued_is_an_order_like_any_other() {
    let Some(world) = newest(PebbleOptions::default()).await else { return };
    let issuer = world.issuer(world.config());
    for id in ["aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE", "not an identifier"] {
        let mut renewal = order(&issuer, KeyType::EcdsaP256);
        renewal.replaces = Some(id.into());
        issued(issue_order(&issuer, &world.responder.answers, renewal, &["a.example.com"]).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_ca_has_no_window() {
    let Some(world) = newest(PebbleOptions::default()).await else { return };
    let issuer = world.issuer(world.config());
    let mut facts = issued(issue(&issuer, &world.responder.answers, &["a.example.com"]).await).facts;
    facts.ari_id = Some("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE".into());
    assert_eq!(issuer.renewal_info(&facts, now(), 0.5).await, Outcome::Applied(None));
    facts.ari_id = None;
    assert_eq!(issuer.renewal_info(&facts, now(), 0.5).await, Outcome::Applied(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_decides_the_lifetime_and_an_unknown_one_is_the_operators_move() {
    let Some(world) = newest(PebbleOptions::default()).await else { return };
    let with = |profile: &str| world.issuer(AcmeConfig { profile: Some(profile.into()), ..world.config() });
    let facts = issued(issue(&with(SHORT_PROFILE), &world.responder.answers, &["a.example.com"]).await).facts;
    let expected = SignedDuration::from_secs(SHORT_PROFILE_VALIDITY.try_into().unwrap());
    assert!((facts.lifetime() - expected).abs() <= SignedDuration::from_secs(1), "{:?}", facts.lifetime());
    let rejection = rejected(issue(&with("no-such-profile"), &world.responder.answers, &["a.example.com"]).await);
    assert_eq!((rejection.reason.code, rejection.permanent), (ReasonCode::IssuerMisconfigured, true), "{rejection:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cas_retry_after_paces_the_polling() {
    let options = PebbleOptions { retry_after_seconds: 1, nonce_reject_percent: 30, ..PebbleOptions::default() };
    let Some(world) = newest(options).await else { return };
    issued(issue(&world.issuer(world.config()), &world.responder.answers, &["a.example.com"]).await);
    // Without it, polling from 10 ms on would ask for the order dozens of times in two waits of a second.
    let asked = world.pebble.log().matches("POST /my-order/").count();
    assert!((1..=30).contains(&asked), "{asked}");
}
