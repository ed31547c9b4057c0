//! Orders and certificates. At most one order of a domain is open (a unique index says so); all writes are fenced by the
//! domain's lease. The key moves with the order's end: into the certificate, or into nothing.

use crate::backend::{Row, Sql, Tx, args, for_update};
use crate::claim::{Lease, fence};
use crate::rows::{Cells, corrupt, parsed, to_json};
use crate::{Result, Store, StoreError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use certwright_model::certificate::CertificateFacts;
use certwright_model::edge::ServingCertificate;
use certwright_model::ids::{CertificateId, DomainId, OrderId};
use certwright_model::record::Order;
use jiff::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCertificate {
    pub id: CertificateId,
    pub facts: CertificateFacts,
    /// Leaf first.
    pub chain_pem: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRow {
    pub id: CertificateId,
    pub facts: CertificateFacts,
    pub chain_pem: String,
    pub created_at: Timestamp,
    pub status: CertificateStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateStatus {
    Current,
    Staged,
    Retired,
}

impl CertificateStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Staged => "staged",
            Self::Retired => "retired",
        }
    }
}

/// The domain and the sealed key of an open order, if the domain's lease is the given one.
const HELD: Sql = for_update!(
    "SELECT o.domain_id, o.key_sealed FROM orders o JOIN custom_domains d ON d.id = o.domain_id \
     WHERE o.id = $1 AND o.finished_at IS NULL AND d.lease_token = $2 AND d.lease_owner IS NOT NULL"
);

impl Store {
    /// Conflict `order` when the domain has an open one.
    pub async fn open_order(&self, lease: &Lease, order: Order) -> Result<()> {
        let (lease, sealed) = (*lease, self.sealer.seal("orders", &order.id.to_string(), &order.key_pkcs8_der)?);
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    fence(tx, order.domain_id, &lease).await?;
                    let insert = "INSERT INTO orders (id, domain_id, issuer, stage, order_url, key_sealed, key_type, replaces, is_renewal, \
                                  created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
                    let args = args![
                        order.id,
                        order.domain_id,
                        order.issuer.as_str(),
                        order.stage.as_str(),
                        order.order_url.clone(),
                        sealed,
                        order.key_type.as_str(),
                        order.replaces.clone(),
                        order.is_renewal,
                        order.created_at,
                    ];
                    tx.exec(insert, args).await.map(drop)
                })
            })
            .await
    }

    pub async fn order_placed(&self, lease: &Lease, id: OrderId, url: &str) -> Result<()> {
        let (lease, url) = (*lease, url.to_owned());
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    held(tx, id, &lease).await?;
                    tx.exec("UPDATE orders SET stage = 'placed', order_url = $2 WHERE id = $1", args![id, url]).await.map(drop)
                })
            })
            .await
    }

    pub async fn order_finalizing(&self, lease: &Lease, id: OrderId) -> Result<()> {
        let lease = *lease;
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    held(tx, id, &lease).await?;
                    tx.exec("UPDATE orders SET stage = 'finalizing' WHERE id = $1", args![id]).await.map(drop)
                })
            })
            .await
    }

    /// Closes the order, stores the certificate with the order's key, and stages it on the domain. Whoever saves the
    /// domain's state afterwards passes the same `staged_certificate_id`.
    pub async fn order_issued(&self, lease: &Lease, id: OrderId, certificate: NewCertificate, now: Timestamp) -> Result<()> {
        let (lease, sealer) = (*lease, self.sealer.clone());
        // A chain that cannot be served must not be stored.
        chain_der(&certificate.chain_pem)?;
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    let (domain, sealed) = held(tx, id, &lease).await?;
                    let key = sealer.unseal("orders", &id.to_string(), &sealed)?;
                    let sealed = sealer.seal("certificates", &certificate.id.to_string(), &key)?;
                    let NewCertificate { id: certificate_id, facts, chain_pem } = certificate;
                    let insert = "INSERT INTO certificates (id, domain_id, certificate_ref, not_after, facts, chain_pem, key_sealed, \
                                  created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
                    let args = args![
                        certificate_id,
                        domain,
                        facts.certificate_ref.as_str(),
                        facts.not_after,
                        to_json(&facts)?,
                        chain_pem,
                        sealed,
                        now,
                    ];
                    tx.exec(insert, args).await?;
                    close(tx, id, "issued", None, now).await?;
                    let stage = "UPDATE custom_domains SET staged_certificate_id = $2, \
                                 edge_changed_at = CASE WHEN published = 1 THEN $3 ELSE edge_changed_at END WHERE id = $1";
                    tx.exec(stage, args![domain, certificate_id, now]).await.map(drop)
                })
            })
            .await
    }

    pub async fn order_failed(&self, lease: &Lease, id: OrderId, message: &str, now: Timestamp) -> Result<()> {
        let (lease, message) = (*lease, message.to_owned());
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    held(tx, id, &lease).await?;
                    close(tx, id, "failed", Some(message), now).await
                })
            })
            .await
    }

    /// Newest first.
    pub async fn certificates_of(&self, domain: DomainId) -> Result<Vec<CertificateRow>> {
        let select = "SELECT c.id, c.facts, c.chain_pem, c.created_at, \
                      CASE c.id WHEN d.certificate_id THEN 'current' WHEN d.staged_certificate_id THEN 'staged' ELSE 'retired' END \
                      FROM certificates c JOIN custom_domains d ON d.id = c.domain_id WHERE c.domain_id = $1 \
                      ORDER BY c.created_at DESC, c.id DESC";
        self.db.all(select, args![domain]).await?.iter().map(certificate).collect()
    }

    pub async fn serving_certificate(&self, id: CertificateId) -> Result<Option<ServingCertificate>> {
        let select = "SELECT chain_pem, key_sealed FROM certificates WHERE id = $1";
        let Some(row) = self.db.one(select, args![id]).await? else { return Ok(None) };
        let key = self.sealer.unseal("certificates", &id.to_string(), &row.blob(1)?)?;
        Ok(Some(ServingCertificate { chain_der: chain_der(&row.text(0)?)?, key_pkcs8_der: key.to_vec() }))
    }
}

async fn held(tx: &mut Tx, id: OrderId, lease: &Lease) -> Result<(DomainId, Vec<u8>)> {
    let row = tx.one(HELD, args![id, lease.token]).await?.ok_or(StoreError::LostLease)?;
    Ok((parsed(&row.text(0)?)?, row.blob(1)?))
}

async fn close(tx: &mut Tx, id: OrderId, outcome: &'static str, error: Option<String>, now: Timestamp) -> Result<()> {
    let close = "UPDATE orders SET outcome = $2, error = $3, finished_at = $4, key_sealed = NULL WHERE id = $1";
    tx.exec(close, args![id, outcome, error, now]).await?;
    tx.exec("DELETE FROM challenges WHERE order_id = $1", args![id]).await.map(drop)
}

fn certificate(row: &Row) -> Result<CertificateRow> {
    let mut cells = Cells::new(row);
    Ok(CertificateRow {
        id: cells.parsed()?,
        facts: cells.json()?,
        chain_pem: cells.text()?,
        created_at: cells.time()?,
        status: match cells.text()?.as_str() {
            "current" => CertificateStatus::Current,
            "staged" => CertificateStatus::Staged,
            _ => CertificateStatus::Retired,
        },
    })
}

/// The certificates of a PEM text (RFC 7468), in order; anything between them is explanatory text.
fn chain_der(pem: &str) -> Result<Vec<Vec<u8>>> {
    let mut chain = Vec::new();
    let mut rest = pem;
    while let Some((_, after)) = rest.split_once("-----BEGIN CERTIFICATE-----") {
        let (body, tail) = after.split_once("-----END CERTIFICATE-----").ok_or_else(|| corrupt("a chain without its end line"))?;
        let digits: String = body.split_ascii_whitespace().collect();
        chain.push(STANDARD.decode(digits).map_err(corrupt)?);
        rest = tail;
    }
    if chain.is_empty() { Err(StoreError::Corrupt("a chain without certificates".into())) } else { Ok(chain) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_read_in_order_with_text_between() {
        let pem = "leaf\n-----BEGIN CERTIFICATE-----\nAQID\nBAUG\n-----END CERTIFICATE-----\r\n-----BEGIN CERTIFICATE-----\nBw==\n-----END CERTIFICATE-----\n";
        assert_eq!(chain_der(pem).unwrap(), vec![vec![1, 2, 3, 4, 5, 6], vec![7]]);
        for bad in ["", "-----BEGIN CERTIFICATE-----\nAQID", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"] {
            assert!(chain_der(bad).is_err(), "{bad}");
        }
    }
}
