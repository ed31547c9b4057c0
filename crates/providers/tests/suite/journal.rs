//! An order's journal as the store keeps it, with a crash at a chosen call; and what every issuer test builds.

use crate::responder::Answers;
use async_trait::async_trait;
use certwright_model::Hostname;
use certwright_model::certificate::KeyType;
use certwright_model::ids::{DomainId, OrderId};
use certwright_model::record::{Order, OrderStage};
use certwright_providers::issuer::{IssueProgress, IssueRequest, Issued, Issuer, JournalError, OrderJournal, PublishedChallenge};
use certwright_providers::{Outcome, Rejection, x509};
use jiff::Timestamp;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Placed,
    Publish,
    Finalizing,
}

/// Whether the crash came before or after the call had stored what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    Before(Call),
    After(Call),
}

pub struct Journal {
    order: Mutex<Order>,
    answers: Answers,
    crash: Option<Crash>,
    pub calls: Mutex<Vec<Call>>,
}

impl Journal {
    pub fn new(order: Order, answers: &Answers) -> Self {
        Self { order: Mutex::new(order), answers: answers.clone(), crash: None, calls: Mutex::default() }
    }

    pub fn crashing(order: Order, answers: &Answers, crash: Crash) -> Self {
        Self { crash: Some(crash), ..Self::new(order, answers) }
    }

    /// The order as a restarted process finds it.
    pub fn order(&self) -> Order {
        self.order.lock().unwrap().clone()
    }

    fn step(&self, call: Call, store: impl FnOnce(&mut Order)) -> Result<(), JournalError> {
        self.calls.lock().unwrap().push(call);
        if self.crash == Some(Crash::Before(call)) {
            return Err(JournalError("crashed".into()));
        }
        store(&mut self.order.lock().unwrap());
        if self.crash == Some(Crash::After(call)) { Err(JournalError("crashed".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl OrderJournal for Journal {
    async fn placed(&self, order_url: &str) -> Result<(), JournalError> {
        self.step(Call::Placed, |order| {
            order.stage = OrderStage::Placed;
            order.order_url = Some(order_url.to_owned());
        })
    }

    async fn publish(&self, challenges: Vec<PublishedChallenge>) -> Result<(), JournalError> {
        self.step(Call::Publish, |_| self.answers.publish(challenges))
    }

    async fn finalizing(&self) -> Result<(), JournalError> {
        self.step(Call::Finalizing, |order| order.stage = OrderStage::Finalizing)
    }
}

pub fn host(name: &str) -> Hostname {
    Hostname::parse(name).unwrap()
}

/// Real peers check real dates.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Timestamp {
    Timestamp::now()
}

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

pub fn order(issuer: &dyn Issuer, key_type: KeyType) -> Order {
    Order {
        id: OrderId(uuid::Uuid::from_u128(1)),
        domain_id: DomainId(uuid::Uuid::from_u128(2)),
        issuer: issuer.name().to_owned(),
        stage: OrderStage::Intended,
        order_url: None,
        key_pkcs8_der: x509::key_pair(key_type).unwrap(),
        key_type,
        replaces: None,
        is_renewal: false,
        created_at: now(),
    }
}

pub fn request(order: Order, names: &[&str]) -> IssueRequest {
    IssueRequest { order, names: names.iter().map(|name| host(name)).collect(), lifetime_hint: None }
}

/// The whole way, without a crash.
pub async fn issue(issuer: &dyn Issuer, answers: &Answers, names: &[&str]) -> Outcome<IssueProgress> {
    issue_order(issuer, answers, order(issuer, KeyType::EcdsaP256), names).await
}

pub async fn issue_order(issuer: &dyn Issuer, answers: &Answers, order: Order, names: &[&str]) -> Outcome<IssueProgress> {
    let journal = Journal::new(order.clone(), answers);
    issuer.issue(&request(order, names), &journal, now(), soon()).await
}

#[track_caller]
pub fn issued(outcome: Outcome<IssueProgress>) -> Issued {
    match outcome {
        Outcome::Applied(IssueProgress::Issued(issued)) => issued,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub fn rejected(outcome: Outcome<IssueProgress>) -> Rejection {
    match outcome {
        Outcome::Rejected(rejection) => rejection,
        other => panic!("{other:?}"),
    }
}
