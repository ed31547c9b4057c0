//! The documented eleven-state view of a site and its custom domain, and its legal edges (SPEC section 4).
//!
//! The view is computed, never stored: two small machines move, and every step of them is one of these edges or none.

use crate::domain::DomainLifecycle;
use crate::site::{SiteLifecycle, word_enum};

word_enum! {
    pub enum SiteStatus {
        Created = "CREATED",
        Provisioning = "PROVISIONING",
        Active = "ACTIVE",
        DomainPending = "DOMAIN_PENDING",
        DomainValidating = "DOMAIN_VALIDATING",
        DomainRouting = "DOMAIN_ROUTING",
        DomainActive = "DOMAIN_ACTIVE",
        DomainRemoving = "DOMAIN_REMOVING",
        Destroying = "DESTROYING",
        Destroyed = "DESTROYED",
        Failed = "FAILED",
    }
}

/// `domain` is the site's custom domain; with several, the one furthest from settled.
pub fn view(site: SiteLifecycle, domain: Option<DomainLifecycle>) -> SiteStatus {
    match (site, domain) {
        (SiteLifecycle::Created, _) => SiteStatus::Created,
        (SiteLifecycle::Provisioning, _) => SiteStatus::Provisioning,
        (SiteLifecycle::Destroying, _) => SiteStatus::Destroying,
        (SiteLifecycle::Destroyed, _) => SiteStatus::Destroyed,
        (SiteLifecycle::Failed, _) => SiteStatus::Failed,
        (SiteLifecycle::Active, None) => SiteStatus::Active,
        (SiteLifecycle::Active, Some(DomainLifecycle::Pending)) => SiteStatus::DomainPending,
        (SiteLifecycle::Active, Some(DomainLifecycle::Validating)) => SiteStatus::DomainValidating,
        (SiteLifecycle::Active, Some(DomainLifecycle::Routing)) => SiteStatus::DomainRouting,
        (SiteLifecycle::Active, Some(DomainLifecycle::Active)) => SiteStatus::DomainActive,
        (SiteLifecycle::Active, Some(DomainLifecycle::Removing)) => SiteStatus::DomainRemoving,
    }
}

impl SiteStatus {
    pub fn can_become(self, to: Self) -> bool {
        use SiteStatus::*;
        matches!(
            (self, to),
            (Created, Provisioning)
                | (Provisioning, Active | Failed)
                | (Active, DomainPending | Destroying)
                | (DomainPending, DomainValidating | Active)
                | (DomainValidating, DomainRouting | DomainPending | Active)
                | (DomainRouting, DomainActive | Active)
                | (DomainActive, DomainRemoving | Destroying)
                | (DomainRemoving, Active | Failed)
                | (Destroying, Destroyed | Failed)
                | (Failed, Provisioning | Destroying)
        )
    }
}

/// The lifecycle that speaks for a site with several custom domains: the least settled one.
pub fn spokesman(domains: impl IntoIterator<Item = DomainLifecycle>) -> Option<DomainLifecycle> {
    use DomainLifecycle::*;
    let unsettled = |state: &DomainLifecycle| match state {
        Removing => 0,
        Pending => 1,
        Validating => 2,
        Routing => 3,
        Active => 4,
    };
    domains.into_iter().min_by_key(unsettled)
}
