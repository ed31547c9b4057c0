//! The one SQLite connection that writes, with group commit: whatever is queued while a commit is on its way to the disk
//! shares the next one. Each piece of work has its own savepoint, so one that fails takes nobody with it; nobody is
//! answered before the commit.

use crate::Result;
use crate::backend::{Conn, Tx};
use crate::error::StoreError;
use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// Callers beyond this wait for room: memory stays bounded.
const QUEUE: usize = 1024;
/// Work in one commit at most, so that the first caller is not kept waiting by the last.
const GROUP: usize = 256;

pub(crate) struct Writer {
    queue: Mutex<Option<mpsc::Sender<Box<dyn Work>>>>,
    task: Mutex<Option<JoinHandle<()>>>,
    wakes: watch::Sender<u64>,
}

impl Writer {
    pub(crate) fn start(connection: SqliteConnection, wakes: watch::Sender<u64>) -> Self {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let task = tokio::spawn(serve(connection, receiver, wakes.clone()));
        Self { queue: Mutex::new(Some(queue)), task: Mutex::new(Some(task)), wakes }
    }

    pub(crate) fn wakes(&self) -> &watch::Sender<u64> {
        &self.wakes
    }

    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Send + 'static,
    {
        let closed = || StoreError::Unavailable("the store is closed".into());
        let queue = self.queue.lock().map_err(|_| closed())?.clone().ok_or_else(closed)?;
        let (reply, answer) = oneshot::channel();
        queue.send(Box::new(Queued { work: Some(work), outcome: None, reply })).await.map_err(|_| closed())?;
        drop(queue);
        answer.await.map_err(|_| closed())?
    }

    /// Finishes what is queued, then closes the file.
    pub(crate) async fn close(&self) {
        drop(self.queue.lock().ok().and_then(|mut queue| queue.take()));
        let task = self.task.lock().ok().and_then(|mut task| task.take());
        if let Some(task) = task {
            // It only fails when the runtime is going down, and then there is nobody to tell.
            let _ = task.await;
        }
    }
}

async fn serve(connection: SqliteConnection, mut queue: mpsc::Receiver<Box<dyn Work>>, wakes: watch::Sender<u64>) {
    let mut tx = Tx::new(Conn::Sqlite(connection));
    while let Some(first) = queue.recv().await {
        let mut group = vec![first];
        while group.len() < GROUP {
            match queue.try_recv() {
                Ok(work) => group.push(work),
                Err(_) => break,
            }
        }
        tx.woke = false;
        let committed = commit(&mut tx, &mut group).await;
        if committed.is_err() {
            // After some failures SQLite has rolled back by itself; then there is nothing to roll back.
            let _ = tx.exec("ROLLBACK", vec![]).await;
        } else if tx.woke {
            wakes.send_modify(|n| *n += 1);
        }
        for work in group {
            work.settle(committed.clone());
        }
    }
    if let Conn::Sqlite(connection) = tx.conn {
        let _ = connection.close().await;
    }
}

async fn commit(tx: &mut Tx, group: &mut [Box<dyn Work>]) -> Result<()> {
    tx.exec("BEGIN IMMEDIATE", vec![]).await?;
    for work in group {
        tx.exec("SAVEPOINT work", vec![]).await?;
        let woke = std::mem::take(&mut tx.woke);
        match work.run(tx).await {
            None => tx.woke |= woke,
            // SQLite may have dropped the whole transaction: everybody in it has to hear so.
            Some(error @ (StoreError::Busy | StoreError::Full | StoreError::Unavailable(_))) => return Err(error),
            Some(_) => {
                tx.woke = woke;
                tx.exec("ROLLBACK TO work", vec![]).await?;
            }
        }
        tx.exec("RELEASE work", vec![]).await?;
    }
    tx.exec("COMMIT", vec![]).await.map(drop)
}

#[async_trait]
trait Work: Send {
    /// The error, if it failed.
    async fn run(&mut self, tx: &mut Tx) -> Option<StoreError>;
    /// Answers the caller.
    fn settle(self: Box<Self>, committed: Result<()>);
}

struct Queued<T, F> {
    work: Option<F>,
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

#[async_trait]
impl<T, F> Work for Queued<T, F>
where
    T: Send + 'static,
    F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Send + 'static,
{
    async fn run(&mut self, tx: &mut Tx) -> Option<StoreError> {
        let work = self.work.take()?;
        // One caller's bug must not take the writer of all others down.
        let outcome = AssertUnwindSafe(async { work(tx).await }).catch_unwind().await;
        let outcome = outcome.unwrap_or_else(|_| Err(StoreError::Backend("a write panicked; it was rolled back".into())));
        let error = outcome.as_ref().err().cloned();
        self.outcome = Some(outcome);
        error
    }

    fn settle(self: Box<Self>, committed: Result<()>) {
        let outcome = match (committed, self.outcome) {
            // Its own refusal stands, whatever became of the others.
            (_, Some(Err(error))) => Err(error),
            (Ok(()), Some(Ok(value))) => Ok(value),
            (Ok(()), None) => Err(StoreError::Backend("a write did not run".into())),
            (Err(error), _) => Err(error),
        };
        // The caller may have gone; what is stored is stored.
        let _ = self.reply.send(outcome);
    }
}
