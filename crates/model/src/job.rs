//! Jobs: what a person asked for and how far it is. A job never decides; the planner does, and the job closes when the
//! rows it is about have arrived where the request wanted them.

use crate::site::word_enum;

word_enum! {
    pub enum JobKind {
        Provision = "provision",
        Destroy = "destroy",
        DomainSet = "domain_set",
        DomainRemove = "domain_remove",
        CertRetry = "cert_retry",
    }
}

word_enum! {
    pub enum JobStatus {
        /// Stored; a worker will take it.
        Queued = "queued",
        Running = "running",
        /// Somebody else has to act first (a customer, an operator, a CA); it goes on by itself after that. It blocks nothing.
        Waiting = "waiting",
        Succeeded = "succeeded",
        Failed = "failed",
    }
}

impl JobStatus {
    pub fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

word_enum! {
    /// How one step of a job ended.
    pub enum StepStatus {
        Started = "started",
        Applied = "applied",
        Rejected = "rejected",
        /// The reply was lost; the next look tells.
        Unknown = "unknown",
        Waiting = "waiting",
    }
}
