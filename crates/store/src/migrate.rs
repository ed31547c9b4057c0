//! Migrations: embedded, numbered alike for both engines, applied in order in one transaction, recorded in `meta`'s
//! neighbour `schema_migrations`. A database of a newer version is refused, never downgraded.

use crate::backend::{Db, Sql, args};
use crate::{Result, StoreError};
use jiff::Timestamp;

struct Migration {
    version: i64,
    name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

macro_rules! migration {
    ($version:literal, $file:literal) => {
        Migration {
            version: $version,
            name: $file,
            sqlite: include_str!(concat!("../migrations/sqlite/", $file, ".sql")),
            postgres: include_str!(concat!("../migrations/postgres/", $file, ".sql")),
        }
    };
}

const MIGRATIONS: &[Migration] = &[migration!(1, "0001_start"), migration!(2, "0002_events")];

/// One process migrates; the others wait for it.
const LOCK: Sql = Sql::Two { sqlite: "SELECT 1", postgres: "SELECT pg_advisory_xact_lock(7234019155)" };
const RECORD: &str =
    "CREATE TABLE IF NOT EXISTS schema_migrations (version BIGINT PRIMARY KEY, name TEXT NOT NULL, applied_at BIGINT NOT NULL)";

pub(crate) async fn migrate(db: &Db, now: Timestamp) -> Result<()> {
    db.write(move |tx| {
        Box::pin(async move {
            tx.all(LOCK, vec![]).await?;
            tx.exec(RECORD, vec![]).await?;
            let found = match tx.one("SELECT MAX(version) FROM schema_migrations", vec![]).await? {
                Some(row) => row.int_opt(0)?.unwrap_or(0),
                None => 0,
            };
            let known = MIGRATIONS.last().map_or(0, |migration| migration.version);
            if found > known {
                return Err(StoreError::NewerSchema { found, known });
            }
            for migration in MIGRATIONS.iter().filter(|migration| migration.version > found) {
                tx.script(migration.sqlite, migration.postgres).await?;
                let record = "INSERT INTO schema_migrations (version, name, applied_at) VALUES ($1, $2, $3)";
                tx.exec(record, args![migration.version, migration.name, now]).await?;
            }
            Ok(())
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::MIGRATIONS;

    #[test]
    fn versions_count_from_one_and_lead_their_file_names() {
        for (index, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.version, index as i64 + 1);
            assert!(migration.name.starts_with(&format!("{:04}_", migration.version)), "{}", migration.name);
        }
    }
}
