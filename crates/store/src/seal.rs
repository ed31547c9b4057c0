//! Envelope encryption: AES-256-GCM with a random nonce. A data key seals the secrets of rows, with `table:row id` as
//! associated data, so that a sealed value cannot be moved to another row; the key-encryption key seals the data key.
//!
//! Sealed bytes: version 1, the data key's id (8 bytes, big endian), the nonce (12 bytes), ciphertext and tag.

use crate::backend::{Db, args};
use crate::kek::{KekSource, Key, random_key};
use crate::{Result, StoreError};
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest;
use jiff::Timestamp;
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const HEADER: usize = 9;
/// The first data key's number. A second one would be added beside it, never in its place.
const FIRST: i64 = 1;

/// The data keys, unwrapped. Newest last.
pub(crate) struct Sealer {
    keys: Vec<DataKey>,
}

struct DataKey {
    id: i64,
    /// Kept so that the data key can be wrapped anew without the old key-encryption key.
    raw: Key,
    cipher: RandomizedNonceKey,
}

impl Sealer {
    /// Unwraps the data keys; makes the first one in a new database.
    pub(crate) async fn open(db: &Db, source: &KekSource, now: Timestamp) -> Result<Self> {
        let is_new = db.one("SELECT id FROM data_keys LIMIT 1", vec![]).await?.is_none();
        let kek = source.load(is_new).await?;
        if is_new {
            let raw = random_key().map_err(|error| StoreError::Key(error.to_string()))?;
            let (wrapped, check) = (wrap(&kek, FIRST, &raw)?, check(&kek));
            // Another process may be first; then its key is read below.
            let insert = "INSERT INTO data_keys (id, wrapped, kek_check, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING";
            db.write(move |tx| Box::pin(async move { tx.exec(insert, args![FIRST, wrapped, check, now]).await })).await?;
        }
        let mut keys = Vec::new();
        for row in db.all("SELECT id, wrapped, kek_check FROM data_keys ORDER BY id", vec![]).await? {
            let id = row.int(0)?;
            if row.text(2)? != check(&kek) {
                return Err(StoreError::Key("this is not the key that the database was sealed with".into()));
            }
            let plain = open_with(&cipher(&kek[..])?, &aad("data_keys", &id.to_string()), &row.blob(1)?)?;
            let mut raw = Zeroizing::new([0u8; 32]);
            if plain.len() != raw.len() {
                return Err(StoreError::Corrupt(format!("data key {id} has another length")));
            }
            raw.copy_from_slice(&plain);
            keys.push(DataKey { id, cipher: cipher(&raw[..])?, raw });
        }
        Ok(Self { keys })
    }

    pub(crate) fn seal(&self, table: &str, row: &str, plain: &[u8]) -> Result<Vec<u8>> {
        let key = self.keys.last().ok_or_else(|| StoreError::Key("there is no data key".into()))?;
        seal_with(&key.cipher, key.id, &aad(table, row), plain)
    }

    pub(crate) fn unseal(&self, table: &str, row: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let id = sealed.get(1..HEADER).and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes);
        let key = self.keys.iter().find(|key| Some(key.id) == id);
        let key = key.ok_or_else(|| StoreError::Corrupt(format!("{table} {row} is sealed with an unknown data key")))?;
        open_with(&key.cipher, &aad(table, row), sealed)
    }

    /// Every data key, wrapped with another key-encryption key: id, wrapped, check.
    pub(crate) fn rewrap(&self, kek: &Key) -> Result<Vec<(i64, Vec<u8>, String)>> {
        self.keys.iter().map(|key| Ok((key.id, wrap(kek, key.id, &key.raw)?, check(kek)))).collect()
    }
}

fn wrap(kek: &Key, id: i64, raw: &Key) -> Result<Vec<u8>> {
    seal_with(&cipher(&kek[..])?, id, &aad("data_keys", &id.to_string()), &raw[..])
}

/// Tells a wrong key from a damaged row, and gives nothing away about a random 256-bit key.
fn check(kek: &Key) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"certwright key-encryption key check\0");
    context.update(&kek[..]);
    context.finish().as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn cipher(key: &[u8]) -> Result<RandomizedNonceKey> {
    RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| StoreError::Key("AES-256-GCM refuses the key".into()))
}

fn aad(table: &str, row: &str) -> Vec<u8> {
    format!("{table}:{row}").into_bytes()
}

fn seal_with(cipher: &RandomizedNonceKey, id: i64, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
    let mut body = plain.to_vec();
    let nonce = cipher.seal_in_place_append_tag(Aad::from(aad), &mut body).map_err(|_| StoreError::Key("sealing failed".into()))?;
    let mut sealed = Vec::with_capacity(HEADER + NONCE_LEN + body.len());
    sealed.push(VERSION);
    sealed.extend_from_slice(&id.to_be_bytes());
    sealed.extend_from_slice(nonce.as_ref());
    sealed.append(&mut body);
    Ok(sealed)
}

fn open_with(cipher: &RandomizedNonceKey, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let broken = || StoreError::Corrupt(format!("the sealed value of {} does not open", String::from_utf8_lossy(aad)));
    let (header, rest) = sealed.split_at_checked(HEADER).ok_or_else(broken)?;
    let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or_else(broken)?;
    if header[0] != VERSION {
        return Err(broken());
    }
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| broken())?;
    let mut body = Zeroizing::new(body.to_vec());
    let length = cipher.open_in_place(nonce, Aad::from(aad), &mut body).map_err(|_| broken())?.len();
    body.truncate(length);
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer() -> Sealer {
        let raw = random_key().unwrap();
        Sealer { keys: vec![DataKey { id: 7, cipher: cipher(&raw[..]).unwrap(), raw }] }
    }

    #[test]
    fn a_sealed_value_opens_in_its_own_row_only() {
        let sealer = sealer();
        let sealed = sealer.seal("orders", "1", b"secret").unwrap();
        assert_eq!(sealer.unseal("orders", "1", &sealed).unwrap().as_slice(), b"secret");
        for (table, row) in [("orders", "2"), ("certificates", "1")] {
            assert!(matches!(sealer.unseal(table, row, &sealed), Err(StoreError::Corrupt(_))));
        }
        assert_ne!(sealed, sealer.seal("orders", "1", b"secret").unwrap(), "nonces differ");
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let sealer = sealer();
        let sealed = sealer.seal("orders", "1", b"secret").unwrap();
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(sealer.unseal("orders", "1", &changed).is_err(), "byte {index}");
            assert!(sealer.unseal("orders", "1", &sealed[..index]).is_err(), "first {index}");
        }
    }
}
