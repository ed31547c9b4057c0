//! What the engine keeps in the database, in memory.

use async_trait::async_trait;
use certwright_providers::issuer::JournalError;
use certwright_providers::issuer::acme::AccountStore;
use certwright_providers::issuer::internal::{CaMaterial, CaRole, CaStore};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Default)]
pub struct Accounts {
    stored: Mutex<HashMap<(String, String), String>>,
    pub saves: AtomicU32,
    pub forgotten: AtomicU32,
}

#[async_trait]
impl AccountStore for Accounts {
    async fn load(&self, issuer: &str, directory_url: &str) -> Result<Option<String>, JournalError> {
        Ok(self.stored.lock().unwrap().get(&(issuer.into(), directory_url.into())).cloned())
    }

    async fn save_if_absent(&self, issuer: &str, directory_url: &str, credentials: &str) -> Result<String, JournalError> {
        self.saves.fetch_add(1, Ordering::SeqCst);
        let key = (issuer.to_owned(), directory_url.to_owned());
        Ok(self.stored.lock().unwrap().entry(key).or_insert_with(|| credentials.to_owned()).clone())
    }

    async fn forget(&self, issuer: &str, directory_url: &str, credentials: &str) -> Result<(), JournalError> {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        let key = (issuer.to_owned(), directory_url.to_owned());
        let mut stored = self.stored.lock().unwrap();
        if stored.get(&key).is_some_and(|current| current == credentials) {
            stored.remove(&key);
        }
        Ok(())
    }
}

#[derive(Default)]
pub struct CaKeys(Mutex<HashMap<CaRole, CaMaterial>>);

#[async_trait]
impl CaStore for CaKeys {
    async fn load(&self, role: CaRole) -> Result<Option<CaMaterial>, JournalError> {
        Ok(self.0.lock().unwrap().get(&role).cloned())
    }

    async fn put_if_absent(&self, role: CaRole, material: CaMaterial) -> Result<CaMaterial, JournalError> {
        Ok(self.0.lock().unwrap().entry(role).or_insert(material).clone())
    }
}
