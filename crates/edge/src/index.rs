//! The index: which name goes where and shows which certificate. About 150 octets a name, and as much again for
//! a route of its own.
//!
//! Sharded, so that readers hardly ever meet a writer and a change costs one lock of one shard. A route is stored once
//! for all names that share it. Names are the canonical spelling of `Hostname`; an exact entry wins over the wildcard.

use crate::proxy::Upstream;
use certwright_model::edge::{EdgeChange, EdgeEntry, EdgeRoute};
use certwright_model::hostname::Hostname;
use certwright_model::ids::CertificateId;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

const SHARDS: usize = 96;

pub(crate) struct Index {
    hasher: RandomState,
    shards: Vec<RwLock<Shard>>,
    /// By the keyed hash of what the route says. Of two that collide, the second is simply not shared.
    routes: Mutex<HashMap<u64, Arc<Route>>>,
    len: AtomicUsize,
}

type Shard = HashMap<Box<str>, Slot>;

struct Slot {
    route: Arc<Route>,
    certificate: Option<CertificateId>,
}

/// A route, with what is worth working out once.
pub(crate) struct Route {
    pub(crate) spec: EdgeRoute,
    /// `None` for a proxy whose upstream is not an `http://` URL.
    pub(crate) upstream: Option<Box<Upstream>>,
    names: AtomicUsize,
}

/// What answers for a name.
#[derive(Clone)]
pub(crate) struct Hit {
    pub(crate) route: Arc<Route>,
    pub(crate) certificate: Option<CertificateId>,
    pub(crate) by_wildcard: bool,
}

impl Index {
    pub(crate) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            routes: Mutex::default(),
            len: AtomicUsize::new(0),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    pub(crate) fn apply(&self, changes: impl IntoIterator<Item = EdgeChange>) {
        for change in changes {
            let previous = match change {
                EdgeChange::Set(EdgeEntry { host, route, certificate }) => {
                    let slot = Slot { route: self.intern(route), certificate };
                    let name = String::from(host).into_boxed_str();
                    let previous = write(self.shard(&name)).insert(name, slot);
                    if previous.is_none() {
                        self.len.fetch_add(1, Relaxed);
                    }
                    previous
                }
                EdgeChange::Remove(host) => {
                    let previous = write(self.shard(host.as_str())).remove(host.as_str());
                    if previous.is_some() {
                        self.len.fetch_sub(1, Relaxed);
                    }
                    previous
                }
            };
            if let Some(slot) = previous {
                self.release(&slot.route);
            }
        }
    }

    /// `name` in lower case.
    pub(crate) fn find(&self, name: &str) -> Option<Hit> {
        if let Some(hit) = self.get(name, false) {
            return Some(hit);
        }
        let (_, rest) = name.split_once('.')?;
        // A valid name has at most 253 octets: no allocation for a miss.
        let mut wildcard = [0u8; 256];
        let spelled = wildcard.get_mut(..rest.len() + 2)?;
        spelled[..2].copy_from_slice(b"*.");
        spelled[2..].copy_from_slice(rest.as_bytes());
        self.get(std::str::from_utf8(spelled).ok()?, true)
    }

    /// The entry as it was set: for a host under a wildcard, the wildcard's.
    pub(crate) fn entry(&self, host: &Hostname) -> Option<EdgeEntry> {
        let hit = self.find(host.as_str())?;
        let host = if hit.by_wildcard { host.covering_wildcard()? } else { host.clone() };
        Some(EdgeEntry { host, route: hit.route.spec.clone(), certificate: hit.certificate })
    }

    /// A hit that did not come from the index; nothing is stored.
    pub(crate) fn loose(entry: EdgeEntry) -> Hit {
        Hit { by_wildcard: entry.host.is_wildcard(), certificate: entry.certificate, route: Arc::new(Route::new(entry.route)) }
    }

    fn get(&self, name: &str, by_wildcard: bool) -> Option<Hit> {
        let shard = self.shard(name).read().unwrap_or_else(PoisonError::into_inner);
        let slot = shard.get(name)?;
        Some(Hit { route: Arc::clone(&slot.route), certificate: slot.certificate, by_wildcard })
    }

    fn shard(&self, name: &str) -> &RwLock<Shard> {
        &self.shards[(self.hasher.hash_one(name) as usize) % SHARDS]
    }

    fn intern(&self, spec: EdgeRoute) -> Arc<Route> {
        let key = self.hasher.hash_one(&spec);
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let route = match routes.entry(key) {
            Entry::Occupied(held) if held.get().spec == spec => Arc::clone(held.get()),
            Entry::Occupied(_other) => Arc::new(Route::new(spec)),
            Entry::Vacant(free) => Arc::clone(free.insert(Arc::new(Route::new(spec)))),
        };
        route.names.fetch_add(1, Relaxed);
        route
    }

    /// Forgets a route that no name uses any more. `names` only changes under the lock of the table.
    fn release(&self, route: &Arc<Route>) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if route.names.fetch_sub(1, Relaxed) == 1
            && let Entry::Occupied(held) = routes.entry(self.hasher.hash_one(&route.spec))
            && Arc::ptr_eq(held.get(), route)
        {
            held.remove();
        }
    }
}

fn write(shard: &RwLock<Shard>) -> std::sync::RwLockWriteGuard<'_, Shard> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

impl Route {
    fn new(spec: EdgeRoute) -> Self {
        let upstream = match &spec {
            EdgeRoute::Proxy { upstream } => Upstream::parse(upstream).map(Box::new),
            EdgeRoute::Files { .. } | EdgeRoute::Nothing => None,
        };
        Self { spec, upstream, names: AtomicUsize::new(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use certwright_model::ids::CertificateId;

    fn host(name: &str) -> Hostname {
        Hostname::parse(name).unwrap()
    }

    fn set(name: &str, site: &str, certificate: u128) -> EdgeChange {
        EdgeChange::Set(EdgeEntry {
            host: host(name),
            route: EdgeRoute::Files { site: site.into(), content: "1".into() },
            certificate: Some(CertificateId(uuid::Uuid::from_u128(certificate))),
        })
    }

    fn certificate_of(index: &Index, name: &str) -> Option<u128> {
        index.find(name).and_then(|hit| hit.certificate).map(|id| id.0.as_u128())
    }

    #[test]
    fn an_exact_entry_wins_over_the_wildcard_and_the_wildcard_takes_one_label() {
        let index = Index::new();
        index.apply([set("*.example.com", "w", 1), set("a.example.com", "a", 2)]);
        assert_eq!(certificate_of(&index, "a.example.com"), Some(2));
        assert_eq!(certificate_of(&index, "b.example.com"), Some(1));
        assert_eq!(certificate_of(&index, "x.b.example.com"), None);
        assert_eq!(certificate_of(&index, "example.com"), None);
        assert_eq!(index.entry(&host("b.example.com")).unwrap().host, host("*.example.com"));
        index.apply([EdgeChange::Remove(host("a.example.com"))]);
        assert_eq!(certificate_of(&index, "a.example.com"), Some(1));
        assert_eq!(index.len(), 1);
    }

    #[test]
    fn a_route_is_stored_once_and_forgotten_with_its_last_name() {
        let index = Index::new();
        index.apply([set("a.example.com", "s", 1), set("b.example.com", "s", 2), set("a.example.com", "s", 3)]);
        assert_eq!(index.routes.lock().unwrap().len(), 1);
        assert_eq!(index.len(), 2);
        index.apply([EdgeChange::Remove(host("a.example.com")), EdgeChange::Remove(host("b.example.com"))]);
        assert_eq!(index.routes.lock().unwrap().len(), 0);
        assert_eq!(index.len(), 0);
    }

    #[test]
    fn a_name_longer_than_any_valid_one_is_a_miss() {
        assert!(Index::new().find(&format!("a.{}", "b".repeat(400))).is_none());
    }
}
