//! What to do next for one site: a pure function, like [`crate::planner`].
//!
//! A site is `ACTIVE` once its default domain is, and that takes a handshake. Destroying waits until no domain of it is left
//! on the edge. The order of the steps keeps to the documented edges of [`crate::view`]: a custom domain that is not yet
//! active goes before the site leaves `ACTIVE`.

use crate::domain::{Desired, DomainKind, DomainLifecycle};
use crate::reason::{Reason, ReasonCode};
use crate::record::{Domain, Site};
use crate::site::SiteLifecycle;
use jiff::Timestamp;

/// How often provisioning may fail for good before the site says so.
pub const MAX_ATTEMPTS: u32 = 5;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SiteStep {
    Advance(SiteLifecycle),
    Fail(Reason),
    /// Look whether the content or the upstream is there.
    Prepare,
    /// Ask the custom domains that are not active to go.
    ReleaseUnsettled,
    /// Ask every domain to go.
    ReleaseAll,
    RemoveContent,
}

impl SiteStep {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Advance(_) => "advance",
            Self::Fail(_) => "fail",
            Self::Prepare => "prepare",
            Self::ReleaseUnsettled => "release_unsettled_domains",
            Self::ReleaseAll => "release_domains",
            Self::RemoveContent => "remove_content",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SitePlan {
    Do(SiteStep),
    Rest(Reason),
}

pub fn plan_site(site: &Site, domains: &[Domain], now: Timestamp) -> SitePlan {
    use SiteLifecycle::*;
    let wanted = site.intent.desired == Desired::Present;
    match site.state.lifecycle {
        Created => SitePlan::Do(SiteStep::Advance(Provisioning)),
        Provisioning => provisioning(site, domains, now),
        Active if wanted => rest(ReasonCode::Healthy, "the site is served"),
        Active => leave_active(domains),
        Destroying => destroying(site, domains),
        Destroyed => rest(ReasonCode::Healthy, "the site is gone"),
        Failed if !wanted => SitePlan::Do(SiteStep::Advance(Destroying)),
        Failed if site.state.look.failed_for != Some(site.intent.changed_at) => SitePlan::Do(SiteStep::Advance(Provisioning)),
        Failed => SitePlan::Rest(site.state.reason.clone().unwrap_or_else(|| Reason::new(ReasonCode::Internal, "the site failed"))),
    }
}

fn rest(code: ReasonCode, message: &str) -> SitePlan {
    SitePlan::Rest(Reason::new(code, message))
}

fn provisioning(site: &Site, domains: &[Domain], now: Timestamp) -> SitePlan {
    if site.intent.desired == Desired::Absent {
        return SitePlan::Do(SiteStep::Fail(Reason::new(ReasonCode::SiteNotReady, "it was asked to go before it was served")));
    }
    if site.state.look.prepared_at.is_none() {
        return match (&site.state.reason, site.state.attempts) {
            (Some(reason), tries) if tries >= MAX_ATTEMPTS => SitePlan::Do(SiteStep::Fail(reason.clone())),
            (Some(reason), tries) if tries > 0 && reason.next_look_at.is_some_and(|at| at > now) => SitePlan::Rest(reason.clone()),
            _ => SitePlan::Do(SiteStep::Prepare),
        };
    }
    // Domains left over from a failed removal go first: the documented view enters ACTIVE without a custom domain.
    if domains.iter().any(|domain| domain.intent.kind == DomainKind::Custom) {
        return if domains.iter().any(|d| d.intent.kind == DomainKind::Custom && d.intent.desired == Desired::Present) {
            SitePlan::Do(SiteStep::ReleaseUnsettled)
        } else {
            rest(ReasonCode::DomainsRemain, "domains of the site are being removed")
        };
    }
    let Some(default) = domains.iter().find(|domain| domain.intent.kind == DomainKind::Default) else {
        return SitePlan::Do(SiteStep::Fail(Reason::new(ReasonCode::Internal, "the site has no default domain")));
    };
    if default.state.lifecycle == DomainLifecycle::Active {
        return SitePlan::Do(SiteStep::Advance(SiteLifecycle::Active));
    }
    if default.state.cert_failure_count >= MAX_ATTEMPTS
        // A failure of a former try says nothing of this one.
        && default.state.look.failed_at >= Some(site.state.lifecycle_since)
        && let Some(reason) = &default.state.look.failure
        && matches!(reason.code, ReasonCode::CaRejected | ReasonCode::IssuerMisconfigured)
    {
        return SitePlan::Do(SiteStep::Fail(reason.clone()));
    }
    SitePlan::Rest(default.state.reason.clone().unwrap_or_else(|| Reason::new(ReasonCode::Queued, "the default domain is queued")))
}

fn leave_active(domains: &[Domain]) -> SitePlan {
    let unsettled: Vec<&Domain> = domains
        .iter()
        .filter(|domain| domain.intent.kind == DomainKind::Custom && domain.state.lifecycle != DomainLifecycle::Active)
        .collect();
    if unsettled.is_empty() {
        SitePlan::Do(SiteStep::Advance(SiteLifecycle::Destroying))
    } else if unsettled.iter().any(|domain| domain.intent.desired == Desired::Present) {
        SitePlan::Do(SiteStep::ReleaseUnsettled)
    } else {
        rest(ReasonCode::DomainsRemain, "a custom domain is being taken away first")
    }
}

fn destroying(site: &Site, domains: &[Domain]) -> SitePlan {
    if domains.iter().any(|domain| domain.intent.desired == Desired::Present) {
        SitePlan::Do(SiteStep::ReleaseAll)
    } else if !domains.is_empty() {
        rest(ReasonCode::DomainsRemain, "the site's domains are being taken off the edge")
    } else if !site.state.look.cleared {
        SitePlan::Do(SiteStep::RemoveContent)
    } else {
        SitePlan::Do(SiteStep::Advance(SiteLifecycle::Destroyed))
    }
}
