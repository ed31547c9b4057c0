//! Making rows due. A row that nobody holds becomes due now; a row under a lease remembers that it was woken, and the
//! release of the lease makes it due.

use crate::Result;
use crate::backend::{Arg, Tx, args};
use jiff::Timestamp;

macro_rules! wake {
    ($table:literal, $where:literal) => {
        concat!(
            "UPDATE ",
            $table,
            " SET ",
            "due_at = CASE WHEN lease_owner IS NOT NULL THEN due_at WHEN due_at IS NULL OR due_at > $1 THEN $1 ELSE due_at END, ",
            "woken = CASE WHEN lease_owner IS NOT NULL THEN 1 ELSE woken END ",
            "WHERE ",
            $where
        )
    };
}

pub(crate) const WAKE_DOMAIN: &str = wake!("custom_domains", "id = $2");
pub(crate) const WAKE_SITE: &str = wake!("sites", "id = $2");
pub(crate) const WAKE_SITE_OF_DOMAIN: &str = wake!("sites", "id = (SELECT site_id FROM custom_domains WHERE id = $2)");
pub(crate) const WAKE_DOMAINS_OF_SITE: &str = wake!("custom_domains", "site_id = $2");
const WAKE_SITES: &str = wake!("sites", "id IN (SELECT v.value->>0 FROM json_each($2) AS v)");

/// Says whether there was such a row.
pub(crate) async fn wake(tx: &mut Tx, sql: &'static str, id: impl Into<Arg>, now: Timestamp) -> Result<bool> {
    let found = tx.exec(sql, vec![now.into(), id.into()]).await? > 0;
    tx.woke |= found;
    Ok(found)
}

pub(crate) async fn wake_sites(tx: &mut Tx, id_list: String, now: Timestamp) -> Result<()> {
    tx.woke |= tx.exec(WAKE_SITES, args![now, id_list]).await? > 0;
    Ok(())
}
