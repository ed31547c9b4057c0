//! What was asked for of sites.

use crate::fixture::*;
use crate::on_both;
use certwright_model::domain::{Desired, DomainKind};
use certwright_model::ids::SiteId;
use certwright_model::job::{JobKind, JobStatus, StepStatus};
use certwright_model::record::JobStep;
use certwright_model::site::{SiteKind, SiteLifecycle, SiteName};
use certwright_store::*;
use jiff::Timestamp;

on_both!(
    a_site_is_stored_whole_with_its_domain_job_and_audit_row,
    a_taken_name_or_hostname_changes_nothing,
    a_site_with_an_active_job_takes_no_second_one,
    only_a_destroyed_site_without_domains_is_deleted,
    sites_are_paged_by_name,
    a_site_that_changes_state_wakes_its_domains,
    steps_are_numbered_in_their_job,
);

async fn a_site_is_stored_whole_with_its_domain_job_and_audit_row(place: &Place) {
    let store = place.open().await;
    let (site, default) = stored_site(&store, "shop").await;
    assert_eq!(store.site_by_id(site.intent.id).await.unwrap(), Some(site.clone()));
    assert_eq!(store.site_by_name(&SiteName::parse("shop").unwrap()).await.unwrap(), Some(site.clone()));
    assert_eq!(store.domains_of_site(site.intent.id).await.unwrap(), vec![default]);
    let job = store.active_job(site.intent.id).await.unwrap().unwrap();
    assert_eq!((job.kind, job.status), (JobKind::Provision, JobStatus::Queued));
    let entry = store.audit(None, 10).await.unwrap().items.remove(0);
    assert_eq!((entry.actor.as_str(), entry.action.as_str(), entry.subject.as_str()), ("alice", "site.create", "shop"));
    assert_eq!((entry.at, entry.before), (at(0), None));
    assert_eq!(entry.after.unwrap()["kind"]["content"], "v1");
    let claimed = store.claim_sites(node(), at(0), 60_000, 10).await.unwrap();
    assert_eq!(claimed.len(), 1, "a new site is due");
    assert_eq!(claimed[0].domains.len(), 1);
    assert_eq!(store.stats(at(0)).await.unwrap().open_jobs, 1);
}

async fn a_taken_name_or_hostname_changes_nothing(place: &Place) {
    let store = place.open().await;
    let (first, _) = stored_site(&store, "shop").await;
    let again = site("shop");
    let create = |site: certwright_model::record::Site, name: &str| {
        let mut default = domain(name, Some(site.intent.id));
        default.intent.kind = DomainKind::Default;
        let job = job(JobKind::Provision, Some(site.intent.id), None);
        let store = store.clone();
        async move { store.create_site(site, default, job, &who(), at(1)).await }
    };
    assert!(matches!(create(again, "other.example.net").await, Err(StoreError::Conflict { what: "site", .. })));
    let other = site("other");
    assert!(matches!(create(other.clone(), "shop.sites.example.net").await, Err(StoreError::Conflict { what: "hostname", .. })));
    assert_eq!(store.site_by_id(other.intent.id).await.unwrap(), None, "the site went with its domain");
    assert_eq!(store.audit(None, 10).await.unwrap().items.len(), 1);

    let claim = store.claim_sites(node(), at(1), 60_000, 10).await.unwrap().remove(0);
    let mut state = claim.site.state.clone();
    state.lifecycle = SiteLifecycle::Destroyed;
    let save =
        SiteSave { id: first.intent.id, lease: claim.lease, state, job_steps: vec![], close_jobs: None, next: SiteNext::Release(None) };
    store.save_site(save, at(2)).await.unwrap();
    let Err(StoreError::Conflict { message, .. }) = create(site("shop"), "x.example.net").await else { panic!("a conflict") };
    assert!(message.contains("delete it first"), "{message}");
}

async fn a_site_with_an_active_job_takes_no_second_one(place: &Place) {
    let store = place.open().await;
    let (site, _) = stored_site(&store, "shop").await;
    let id = site.intent.id;
    let destroy = || SiteChange { desired: Some(Desired::Absent), kind: None };
    let job_of = |kind| job(kind, Some(id), None);
    let refused = store.set_site_intent(id, destroy(), Some(job_of(JobKind::Destroy)), &who(), at(1)).await;
    assert!(matches!(refused, Err(StoreError::Conflict { what: "job", .. })));
    assert_eq!(store.site_by_id(id).await.unwrap().unwrap().intent.desired, Desired::Present, "nothing was changed");
    let custom = domain("www.example.com", Some(id));
    let refused = store.attach_domain(custom.clone(), Some(job_of(JobKind::DomainSet)), &who(), at(1)).await;
    assert!(matches!(refused, Err(StoreError::Conflict { what: "job", .. })));
    assert_eq!(store.domain_by_id(custom.intent.id).await.unwrap(), None);

    // A waiting job blocks nothing, and still ends later.
    let claim = store.claim_sites(node(), at(1), 60_000, 10).await.unwrap().remove(0);
    let first = store.active_job(id).await.unwrap().unwrap().id;
    let close = |status, next| SiteSave {
        id,
        lease: claim.lease,
        state: claim.site.state.clone(),
        job_steps: vec![],
        close_jobs: Some(CloseJobs { kinds: vec![JobKind::Provision], status, error: None, asked_until: Timestamp::MAX }),
        next,
    };
    store.save_site(close(JobStatus::Waiting, SiteNext::KeepLease), at(2)).await.unwrap();
    assert_eq!(store.active_job(id).await.unwrap(), None);
    store.set_site_intent(id, destroy(), Some(job_of(JobKind::Destroy)), &who(), at(3)).await.unwrap();
    store.save_site(close(JobStatus::Succeeded, SiteNext::Release(None)), at(4)).await.unwrap();
    let ended = store.job(first).await.unwrap().unwrap();
    assert_eq!((ended.status, ended.finished_at), (JobStatus::Succeeded, Some(at(4))));
    assert_eq!(store.active_job(id).await.unwrap().unwrap().kind, JobKind::Destroy);
    let jobs = store.jobs_page(None, 1, Some(id)).await.unwrap();
    assert_eq!(jobs.items[0].kind, JobKind::Destroy, "newest first");
    assert_eq!(store.jobs_page(jobs.next, 1, Some(id)).await.unwrap().items[0].id, first);

    let other = SiteChange { kind: Some(SiteKind::Static { content: "v2".into() }), desired: None };
    let changed = store.set_site_intent(id, other, None, &who(), at(5)).await;
    assert_eq!(changed.unwrap().intent.kind, SiteKind::Static { content: "v2".into() });
    assert!(matches!(
        store.set_site_intent(SiteId(uuid()), destroy(), Some(job_of(JobKind::Destroy)), &who(), at(5)).await,
        Err(StoreError::NotFound { what: "site" })
    ));
}

async fn only_a_destroyed_site_without_domains_is_deleted(place: &Place) {
    let store = place.open().await;
    let (site, default) = stored_site(&store, "shop").await;
    let id = site.intent.id;
    assert!(matches!(store.delete_site(id, &who(), at(1)).await, Err(StoreError::Conflict { what: "site", .. })));
    let claim = store.claim_sites(node(), at(1), 60_000, 10).await.unwrap().remove(0);
    let mut state = claim.site.state.clone();
    state.lifecycle = SiteLifecycle::Destroyed;
    let save_site = SiteSave { id, lease: claim.lease, state, job_steps: vec![], close_jobs: None, next: SiteNext::Release(None) };
    store.save_site(save_site, at(1)).await.unwrap();
    assert!(matches!(store.delete_site(id, &who(), at(1)).await, Err(StoreError::Conflict { what: "site", .. })), "a domain remains");
    let row = claimed(&store, default.intent.id, at(2)).await;
    store.save_domain(save(&row, Next::Delete), at(2)).await.unwrap();
    store.delete_site(id, &who(), at(3)).await.unwrap();
    assert_eq!(store.site_by_id(id).await.unwrap(), None);
    assert!(matches!(store.delete_site(id, &who(), at(3)).await, Err(StoreError::NotFound { what: "site" })));
    let (again, _) = stored_site(&store, "shop").await;
    assert_ne!(again.intent.id, id);
}

async fn sites_are_paged_by_name(place: &Place) {
    let store = place.open().await;
    for name in ["b", "a", "c-1", "c0"] {
        stored_site(&store, name).await;
    }
    let names =
        |page: &Page<certwright_model::record::Site>| page.items.iter().map(|site| site.intent.name.to_string()).collect::<Vec<_>>();
    let first = store.sites(None, 3, SiteFilter::default()).await.unwrap();
    assert_eq!(names(&first), ["a", "b", "c-1"]);
    let second = store.sites(first.next, 3, SiteFilter::default()).await.unwrap();
    assert_eq!((names(&second), second.next), (vec!["c0".to_owned()], None));
    let filter = SiteFilter { lifecycle: Some(SiteLifecycle::Created), q: Some("C".into()) };
    assert_eq!(names(&store.sites(None, 9, filter).await.unwrap()), ["c-1", "c0"]);
    let filter = SiteFilter { lifecycle: None, q: Some("%".into()) };
    assert!(store.sites(None, 9, filter).await.unwrap().items.is_empty(), "a pattern character means itself");
}

async fn a_site_that_changes_state_wakes_its_domains(place: &Place) {
    let store = place.open().await;
    let (site, default) = stored_site(&store, "shop").await;
    let row = claimed(&store, default.intent.id, at(0)).await;
    store.save_domain(save(&row, Next::Release(None)), at(0)).await.unwrap();
    let claim = store.claim_sites(node(), at(0), 60_000, 10).await.unwrap().remove(0);
    let mut save = SiteSave {
        id: site.intent.id,
        lease: claim.lease,
        state: claim.site.state.clone(),
        job_steps: vec![],
        close_jobs: None,
        next: SiteNext::KeepLease,
    };
    store.save_site(save.clone(), at(1)).await.unwrap();
    assert!(store.claim_domains(node(), at(1), 60_000, 10).await.unwrap().is_empty());
    save.state.lifecycle = SiteLifecycle::Provisioning;
    save.next = SiteNext::Release(Some(at(50)));
    store.save_site(save.clone(), at(2)).await.unwrap();
    assert_eq!(store.claim_domains(node(), at(2), 60_000, 10).await.unwrap().len(), 1);
    assert_eq!(store.save_site(save, at(3)).await, Err(StoreError::LostLease), "the lease was released");
    assert!(store.claim_sites(node(), at(49), 60_000, 10).await.unwrap().is_empty());
    assert_eq!(store.claim_sites(node(), at(50), 60_000, 10).await.unwrap().len(), 1);
}

async fn steps_are_numbered_in_their_job(place: &Place) {
    let store = place.open().await;
    let (site, default) = stored_site(&store, "shop").await;
    let id = store.active_job(site.intent.id).await.unwrap().unwrap().id;
    let step = |name: &str| JobStep {
        at: at(1),
        step: name.into(),
        status: StepStatus::Applied,
        message: "with a NUL \0 in it".into(),
        elapsed_ms: Some(3),
    };
    let claim = store.claim_sites(node(), at(1), 60_000, 10).await.unwrap().remove(0);
    let save_site = SiteSave {
        id: site.intent.id,
        lease: claim.lease,
        state: claim.site.state,
        job_steps: vec![step("one"), step("two")],
        close_jobs: None,
        next: SiteNext::Release(None),
    };
    store.save_site(save_site, at(1)).await.unwrap();
    let row = claimed(&store, default.intent.id, at(1)).await;
    let mut save = save(&row, Next::Release(None));
    save.job_steps = vec![step("three")];
    save.close_jobs = Some(CloseJobs {
        kinds: vec![JobKind::Provision],
        status: JobStatus::Failed,
        error: Some("why".into()),
        asked_until: Timestamp::MAX,
    });
    store.save_domain(save, at(2)).await.unwrap();
    let steps = store.job_steps(id, 0).await.unwrap();
    let names: Vec<(i64, &str)> = steps.iter().map(|(seq, step)| (*seq, step.step.as_str())).collect();
    assert_eq!(names, [(1, "one"), (2, "two"), (3, "three")], "a default domain reports to its site's job");
    assert_eq!(steps[0].1.message, "with a NUL \u{fffd} in it");
    assert_eq!(store.job_steps(id, 2).await.unwrap().len(), 1);
    let ended = store.job(id).await.unwrap().unwrap();
    assert_eq!((ended.status, ended.error.as_deref()), (JobStatus::Failed, Some("why")));
}
