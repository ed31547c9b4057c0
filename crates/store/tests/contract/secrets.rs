//! The key-encryption key, and what happens to a database without the right one.

use crate::fixture::*;
use crate::on_both;
use certwright_store::*;
use std::os::unix::fs::PermissionsExt;

on_both!(
    the_key_file_is_made_once_and_private,
    a_missing_or_wrong_key_is_refused_at_open,
    a_rotated_key_opens_what_the_old_one_sealed,
    a_key_can_come_from_a_command,
    a_tampered_secret_does_not_open,
    opening_twice_migrates_once_and_a_newer_schema_is_refused,
);

async fn sealed_account(store: &Store) -> AccountRow {
    let account = AccountRow { url: "u".into(), credentials_json: "secret".into() };
    store.put_acme_account("le", "d", account.clone(), at(0)).await.unwrap();
    account
}

async fn the_key_file_is_made_once_and_private(place: &Place) {
    let store = place.open().await;
    store.close().await;
    let before = std::fs::read(place.key_file()).unwrap();
    assert_eq!(before.len(), 65);
    assert_eq!(std::fs::metadata(place.key_file()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        std::fs::read_dir(place.folder.path())
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().contains("kek-"))
            .count(),
        0
    );
    place.open().await.close().await;
    assert_eq!(std::fs::read(place.key_file()).unwrap(), before);
    std::fs::set_permissions(place.key_file(), std::fs::Permissions::from_mode(0o640)).unwrap();
    let Err(StoreError::Key(message)) = Store::open(place.config(), at(0)).await else { panic!("a key error") };
    assert!(message.contains("chmod 600"), "{message}");
}

async fn a_missing_or_wrong_key_is_refused_at_open(place: &Place) {
    place.open().await.close().await;
    let key = std::fs::read_to_string(place.key_file()).unwrap();
    std::fs::remove_file(place.key_file()).unwrap();
    let Err(StoreError::Key(message)) = Store::open(place.config(), at(0)).await else { panic!("a key error") };
    assert!(message.contains("missing"), "{message}");
    assert!(!place.key_file().exists(), "no other key was made");
    for (text, word) in [("00".repeat(32), "not the key"), ("xyz".into(), "64 hex digits")] {
        std::fs::write(place.key_file(), text).unwrap();
        std::fs::set_permissions(place.key_file(), std::fs::Permissions::from_mode(0o600)).unwrap();
        let Err(StoreError::Key(message)) = Store::open(place.config(), at(0)).await else { panic!("a key error") };
        assert!(message.contains(word), "{message}");
    }
    std::fs::write(place.key_file(), key).unwrap();
    place.open().await;
}

async fn a_rotated_key_opens_what_the_old_one_sealed(place: &Place) {
    let store = place.open().await;
    let account = sealed_account(&store).await;
    let new = KekSource::File(place.folder.path().join("kek2"));
    store.rotate_kek(new.clone()).await.unwrap();
    assert_eq!(store.acme_account("le", "d").await.unwrap(), Some(account.clone()), "the running store goes on");
    store.close().await;
    assert!(matches!(Store::open(place.config(), at(0)).await, Err(StoreError::Key(_))), "the old key is out");
    let store = Store::open(StoreConfig { kek: new, ..place.config() }, at(0)).await.unwrap();
    assert_eq!(store.acme_account("le", "d").await.unwrap(), Some(account));
}

async fn a_key_can_come_from_a_command(place: &Place) {
    let argv = |words: &[&str]| KekSource::Command(words.iter().map(ToString::to_string).collect());
    let key = "ab".repeat(32);
    let open = |kek| Store::open(StoreConfig { kek, ..place.config() }, at(0));
    for (kek, word) in
        [(argv(&["false"]), "failed"), (argv(&["echo", "short"]), "64 hex digits"), (argv(&["/nonexistent/command"]), "cannot be started")]
    {
        let Err(StoreError::Key(message)) = open(kek).await else { panic!("a key error") };
        assert!(message.contains(word), "{message}");
    }
    let store = open(argv(&["echo", &key])).await.unwrap();
    sealed_account(&store).await;
    store.close().await;
    open(argv(&["printf", "%s", &key])).await.unwrap();
}

async fn a_tampered_secret_does_not_open(place: &Place) {
    let store = place.open().await;
    sealed_account(&store).await;
    let other = AccountRow { url: "u".into(), credentials_json: "other".into() };
    store.put_acme_account("zs", "d", other, at(0)).await.unwrap();
    // A sealed value that is moved to another row is as bad as a changed one.
    place.raw("UPDATE acme_accounts SET credentials_sealed = (SELECT credentials_sealed FROM acme_accounts WHERE issuer = 'zs')").await;
    assert!(matches!(store.acme_account("le", "d").await, Err(StoreError::Corrupt(_))));
    assert_eq!(store.acme_account("zs", "d").await.unwrap().unwrap().credentials_json, "other");
}

async fn opening_twice_migrates_once_and_a_newer_schema_is_refused(place: &Place) {
    let first = place.open().await;
    first.put_meta("k", "v").await.unwrap();
    let second = place.open().await;
    assert_eq!(second.meta("k").await.unwrap().as_deref(), Some("v"));
    place.raw("INSERT INTO schema_migrations (version, name, applied_at) VALUES (99, 'later', 0)").await;
    assert!(matches!(Store::open(place.config(), at(0)).await, Err(StoreError::NewerSchema { found: 99, .. })));
}
