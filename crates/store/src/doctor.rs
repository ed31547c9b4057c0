//! Rows that nothing will ever look at again, and their removal. In good health there are none but expired challenges.

use crate::audit::{Note, Who, note};
use crate::backend::args;
use crate::{Result, Store};
use jiff::Timestamp;
use serde_json::json;

/// How long a CA keeps an order at most; an open one that is older leads nowhere.
const ORDER_LIFE_MS: i64 = 7 * 24 * 3_600_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrphanKind {
    /// Its domain is gone.
    Certificate,
    /// Open for longer than a CA keeps an order (7 days), or its domain is gone.
    StaleOrder,
    /// Past its expiry.
    ExpiredChallenge,
    /// Open, but neither its site nor its domain exists.
    Job,
}

impl OrphanKind {
    pub const ALL: [OrphanKind; 4] = [Self::Certificate, Self::StaleOrder, Self::ExpiredChallenge, Self::Job];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::StaleOrder => "stale_order",
            Self::ExpiredChallenge => "expired_challenge",
            Self::Job => "job",
        }
    }

    /// `$1` is now, `$2` the oldest moment at which an open order may have been made.
    fn queries(self) -> (&'static str, &'static str) {
        macro_rules! queries {
            ($find:literal, $table:literal, $where:literal, $repair:literal) => {
                (concat!($find, " FROM ", $table, " WHERE ", $where, " LIMIT 1000"), concat!($repair, " WHERE ", $where))
            };
        }
        // Both parameters appear in each text, because PostgreSQL counts them.
        match self {
            Self::Certificate => queries!(
                "SELECT id, certificate_ref",
                "certificates",
                "$1 > $2 AND NOT EXISTS (SELECT 1 FROM custom_domains d WHERE d.id = certificates.domain_id)",
                "DELETE FROM certificates"
            ),
            Self::StaleOrder => queries!(
                "SELECT id, issuer",
                "orders",
                "finished_at IS NULL AND $1 > $2 AND \
                 (created_at < $2 OR NOT EXISTS (SELECT 1 FROM custom_domains d WHERE d.id = orders.domain_id))",
                "UPDATE orders SET outcome = 'failed', error = 'given up: the CA has forgotten it', finished_at = $1, key_sealed = NULL"
            ),
            Self::ExpiredChallenge => {
                queries!("SELECT order_id, host", "challenges", "expires_at < $1 AND $1 > $2", "DELETE FROM challenges")
            }
            Self::Job => queries!(
                "SELECT id, subject",
                "jobs",
                "finished_at IS NULL AND $1 > $2 AND (site_id IS NULL OR NOT EXISTS (SELECT 1 FROM sites s WHERE s.id = jobs.site_id)) \
                 AND (domain_id IS NULL OR NOT EXISTS (SELECT 1 FROM custom_domains d WHERE d.id = jobs.domain_id))",
                "UPDATE jobs SET status = 'failed', error = 'what it was about is gone', finished_at = $1"
            ),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    pub kind: OrphanKind,
    pub id: String,
    pub detail: String,
}

impl Store {
    /// Up to 1,000 of each kind.
    pub async fn orphans(&self, now: Timestamp) -> Result<Vec<Orphan>> {
        let mut orphans = Vec::new();
        for kind in OrphanKind::ALL {
            let oldest_order = now.as_millisecond() - ORDER_LIFE_MS;
            for row in self.db.all(kind.queries().0, args![now, oldest_order]).await? {
                orphans.push(Orphan { kind, id: row.text(0)?, detail: row.text(1)? });
            }
        }
        Ok(orphans)
    }

    /// Removes or closes all of them; says how many.
    pub async fn repair_orphans(&self, who: &Who, now: Timestamp) -> Result<u64> {
        let who = who.clone();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    let (mut notes, mut total) = (Vec::new(), 0);
                    for kind in OrphanKind::ALL {
                        let oldest_order = now.as_millisecond() - ORDER_LIFE_MS;
                        let count = tx.exec(kind.queries().1, args![now, oldest_order]).await?;
                        if count > 0 {
                            notes.push(Note { subject: kind.as_str().into(), before: Some(json!({ "count": count })), after: None });
                        }
                        total += count;
                    }
                    note(tx, &who, now, "doctor.repair", notes).await?;
                    Ok(total)
                })
            })
            .await
    }
}
