//! Who may call what: one table over all routes. A route that is not in it is closed to everybody but administrators, and a
//! test compares the table with the OpenAPI document, so that none is forgotten.

use certwright_model::authority::Permission;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// No token: nothing that is not meant for everybody.
    Public,
    Needs(Permission),
    /// The event's own token and provenance, which its handler checks.
    Event,
}

const READ: Access = Access::Needs(Permission::Read);
const WRITE: Access = Access::Needs(Permission::Write);
const ADMINISTER: Access = Access::Needs(Permission::Administer);

/// Method, path as the router knows it, and what it needs.
pub const TABLE: &[(&str, &str, Access)] = &[
    ("GET", "/", Access::Public),
    ("GET", "/assets/app.css", Access::Public),
    ("GET", "/assets/app.js", Access::Public),
    ("GET", "/openapi.json", Access::Public),
    ("GET", "/v1/ca/root.pem", Access::Public),
    ("GET", "/api/health", Access::Public),
    ("POST", "/api/provision", WRITE),
    ("POST", "/api/static/provision", WRITE),
    ("POST", "/api/destroy", WRITE),
    ("GET", "/api/sites", READ),
    ("GET", "/api/sites/{site}", READ),
    ("DELETE", "/api/sites/{site}", WRITE),
    ("POST", "/api/sites/{site}/domain", WRITE),
    ("DELETE", "/api/sites/{site}/domain", WRITE),
    ("GET", "/api/sites/{site}/domain/status", READ),
    ("POST", "/api/sites/{site}/cert-retry", WRITE),
    ("GET", "/api/jobs", READ),
    ("GET", "/api/jobs/{id}", READ),
    ("GET", "/api/jobs/{id}/events", READ),
    ("GET", "/v1/domains", READ),
    ("POST", "/v1/domains", WRITE),
    ("POST", "/v1/domains/bulk", WRITE),
    ("GET", "/v1/domains/{id}", READ),
    ("PATCH", "/v1/domains/{id}", WRITE),
    ("DELETE", "/v1/domains/{id}", WRITE),
    ("POST", "/v1/domains/{id}/verify", WRITE),
    ("POST", "/v1/domains/{id}/cert-retry", WRITE),
    ("GET", "/v1/domains/{id}/certificates", READ),
    ("GET", "/v1/domains/{id}/cert-events", READ),
    ("POST", "/v1/domains/cert-events", Access::Event),
    ("GET", "/v1/admin/cert-events", READ),
    ("GET", "/v1/admin/cert-events/{id}", READ),
    ("POST", "/v1/admin/cert-events/{id}/replay", WRITE),
    ("POST", "/v1/admin/cert-events/replay", WRITE),
    ("GET", "/v1/admin/cert-sources", READ),
    ("GET", "/v1/admin/tokens", ADMINISTER),
    ("POST", "/v1/admin/tokens", ADMINISTER),
    ("DELETE", "/v1/admin/tokens/{id}", ADMINISTER),
    ("GET", "/v1/admin/audit", ADMINISTER),
    ("GET", "/v1/admin/status", READ),
    ("POST", "/v1/admin/repair", ADMINISTER),
];

/// `HEAD` is `GET` without the body.
pub fn of(method: &str, path: &str) -> Access {
    let method = if method == "HEAD" { "GET" } else { method };
    TABLE.iter().find(|(m, p, _)| *m == method && *p == path).map_or(ADMINISTER, |(_, _, access)| *access)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_without_an_entry_is_closed() {
        assert_eq!(of("GET", "/v1/forgotten"), ADMINISTER);
        assert_eq!(of("PUT", "/api/sites"), ADMINISTER);
        assert_eq!(of("HEAD", "/api/sites"), READ);
    }
}
