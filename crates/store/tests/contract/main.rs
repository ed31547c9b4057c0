//! The contract of the store, run on SQLite and on PostgreSQL. PostgreSQL is the server that `CERTWRIGHT_TEST_POSTGRES`
//! names (an admin URL); each test makes its own database there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod budgets;
mod concurrency;
mod domains;
mod edge;
mod events;
mod fixture;
mod leases;
mod orders;
mod secrets;
mod sites;

/// Each named behaviour becomes a test on both engines.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod on {
            $(mod $name {
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn sqlite() {
                    let place = $crate::fixture::Place::sqlite();
                    super::super::$name(&place).await;
                }
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn postgres() {
                    let Some(place) = $crate::fixture::Place::postgres().await else { return };
                    super::super::$name(&place).await;
                    place.remove().await;
                }
            })+
        }
    };
}
pub(crate) use on_both;
