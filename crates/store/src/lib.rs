//! What Certwright remembers: SQLite or PostgreSQL behind one API, with the private keys sealed.
//!
//! Invariants: every query is one text for both engines (the one dialect switch is `backend`); every change of intent
//! writes its audit row in the same transaction; the loops write state only under a fenced lease; every scan of a loop has
//! the index that makes it proportional to what is due. No network call is made inside a transaction.
//! This crate decides nothing: it does not know what a state means, when to retry or whom to tell.

mod accounts;
mod audit;
mod backend;
mod budget;
mod challenges;
mod claim;
mod doctor;
mod domains;
mod due;
mod edge;
mod error;
mod event_queue;
mod events;
#[cfg(test)]
mod faults;
mod jobs;
mod kek;
mod listing;
mod migrate;
mod orders;
#[cfg(test)]
mod plans;
mod progress;
mod rows;
mod save;
mod seal;
mod sites;
mod stats;
mod store;
mod synthetic;
mod tokens;
mod writer;

pub use accounts::{AccountRow, CaKeyRow, CaRole};
pub use audit::{AuditEntry, Who};
pub use challenges::{Challenge, ChallengeKind};
pub use claim::{ClaimedDomain, ClaimedSite, Lease};
pub use doctor::{Orphan, OrphanKind};
pub use domains::{DomainChange, DomainFilter, Which};
pub use error::StoreError;
pub use event_queue::{AppliedBatch, Fold};
pub use events::{Accepted, EventFilter, EventNote, EventRow, NewEvent, SourceCount, SourceRow, Subject};
pub use kek::KekSource;
pub use orders::{CertificateRow, CertificateStatus, NewCertificate};
pub use save::{CloseJobs, DomainSave, Next, OwnEvent, SiteNext, SiteSave};
pub use sites::{SiteChange, SiteFilter};
pub use stats::Stats;
pub use store::{Page, Store, StoreConfig, Wakes};
pub use synthetic::Synthetic;
pub use tokens::TokenRow;

pub type Result<T, E = StoreError> = std::result::Result<T, E>;
