//! What is wanted of a domain, from flags to the bodies of the API. Words are checked against the model's lists.

use crate::args::DomainWishes;
use anyhow::bail;
use certwright_model::certificate::KeyType;
use certwright_model::domain::{FailurePolicy, TlsMode};
use certwright_server::wire::domains::{ChangeDomain, NewDomain, RouteBody};

struct Words {
    tls_mode: Option<TlsMode>,
    failure_policy: Option<FailurePolicy>,
    key_type: Option<KeyType>,
    issuers: Option<Vec<String>>,
    route: Option<RouteBody>,
}

fn words(wishes: &DomainWishes) -> anyhow::Result<Words> {
    let route = RouteBody {
        site: wishes.site.clone(),
        upstream: wishes.upstream.clone(),
        tunnel: wishes.tunnel.clone(),
        target: wishes.target.clone(),
        region: wishes.region.clone(),
    };
    let leads_somewhere = route.site.is_some() || route.upstream.is_some() || route.tunnel.is_some();
    if wishes.region.is_some() && !leads_somewhere {
        bail!("--region belongs to a route; name one with --upstream URL or --tunnel NAME");
    }
    Ok(Words {
        tls_mode: word("--tls-mode", wishes.tls_mode.as_deref(), TlsMode::parse, TlsMode::ALL)?,
        failure_policy: word("--failure-policy", wishes.failure_policy.as_deref(), FailurePolicy::parse, FailurePolicy::ALL)?,
        key_type: word("--key-type", wishes.key_type.as_deref(), KeyType::parse, KeyType::ALL)?,
        issuers: (!wishes.issuers.is_empty()).then(|| wishes.issuers.clone()),
        route: leads_somewhere.then_some(route),
    })
}

/// One of a closed list of words.
pub(crate) fn word<T: std::fmt::Display>(
    flag: &str,
    text: Option<&str>,
    parse: impl Fn(&str) -> Option<T>,
    all: &[T],
) -> anyhow::Result<Option<T>> {
    let Some(text) = text else { return Ok(None) };
    match parse(text) {
        Some(word) => Ok(Some(word)),
        None => {
            let known: Vec<String> = all.iter().map(|word| format!("`{word}`")).collect();
            bail!("{flag}: `{text}` is not one of {}", known.join(", "))
        }
    }
}

pub(crate) fn new_domain(domain: &str, wishes: &DomainWishes) -> anyhow::Result<NewDomain> {
    let Words { tls_mode, failure_policy, key_type, issuers, route } = words(wishes)?;
    Ok(NewDomain { domain: domain.to_owned(), tls_mode, route, failure_policy, issuer: None, issuers, key_type })
}

pub(crate) fn change(wishes: &DomainWishes, no_route: bool) -> anyhow::Result<ChangeDomain> {
    let Words { tls_mode, failure_policy, key_type, issuers, route } = words(wishes)?;
    let route = if no_route { Some(None) } else { route.map(Some) };
    Ok(ChangeDomain { route, tls_mode, failure_policy, issuer: None, issuers, key_type })
}
