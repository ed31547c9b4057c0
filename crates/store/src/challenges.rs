//! Answers to ACME challenges, for whichever node the CA asks. They go with their order.

use crate::backend::{args, clean};
use crate::{Result, Store};
use certwright_model::Hostname;
use certwright_model::ids::OrderId;
use jiff::Timestamp;
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeKind {
    Http01,
    TlsAlpn01,
}

impl ChallengeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub kind: ChallengeKind,
    pub host: Hostname,
    pub token: String,
    pub key_authorization: String,
}

impl Store {
    /// Putting the same challenge again replaces it.
    pub async fn put_challenges(&self, order: OrderId, challenges: Vec<Challenge>, expires_at: Timestamp) -> Result<()> {
        let cells = |challenge: Challenge| {
            let Challenge { kind, host, token, key_authorization } = challenge;
            json!([kind.as_str(), host.as_str(), clean(token), clean(key_authorization)])
        };
        let rows = Value::Array(challenges.into_iter().map(cells).collect()).to_string();
        let insert = "INSERT INTO challenges (kind, host, token, key_authorization, order_id, expires_at) \
                      SELECT v.value->>0, v.value->>1, v.value->>2, v.value->>3, $2, $3 FROM json_each($1) AS v WHERE true \
                      ON CONFLICT (kind, host, token) DO UPDATE SET key_authorization = excluded.key_authorization, \
                      order_id = excluded.order_id, expires_at = excluded.expires_at";
        self.db.write(move |tx| Box::pin(async move { tx.exec(insert, args![rows, order, expires_at]).await.map(drop) })).await
    }

    /// The key authorization. Without a token, the newest for the host.
    pub async fn challenge(&self, kind: ChallengeKind, host: &Hostname, token: Option<&str>) -> Result<Option<String>> {
        let row = match token {
            Some(token) => {
                let select = "SELECT key_authorization FROM challenges WHERE kind = $1 AND host = $2 AND token = $3";
                self.db.one(select, args![kind.as_str(), host.as_str(), token]).await?
            }
            None => {
                let select = "SELECT key_authorization FROM challenges WHERE kind = $1 AND host = $2 \
                              ORDER BY expires_at DESC, order_id DESC LIMIT 1";
                self.db.one(select, args![kind.as_str(), host.as_str()]).await?
            }
        };
        row.map(|row| row.text(0)).transpose()
    }
}
