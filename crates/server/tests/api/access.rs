//! Who may call what, walked over every route of the document.

use crate::support::{Server, idle};
use certwright_model::authority::{Permission, Role};
use certwright_server::access::{Access, TABLE};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn operations() -> BTreeSet<(String, String)> {
    let document = serde_json::to_value(certwright_server::openapi()).unwrap();
    let mut operations = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in
            item.as_object().unwrap().keys().filter(|key| ["get", "post", "put", "patch", "delete", "head"].contains(&key.as_str()))
        {
            operations.insert((method.to_uppercase(), path.clone()));
        }
    }
    operations
}

#[test]
fn every_route_has_an_entry_in_the_access_table_and_every_entry_a_route() {
    let table: BTreeSet<(String, String)> = TABLE.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(table.len(), TABLE.len(), "an entry stands there twice");
    assert_eq!(operations(), table);
}

#[test]
fn what_is_public_is_a_short_list() {
    let public: Vec<&str> = TABLE.iter().filter(|(.., access)| *access == Access::Public).map(|(_, path, _)| *path).collect();
    assert_eq!(public, ["/", "/assets/app.css", "/assets/app.js", "/openapi.json", "/v1/ca/root.pem", "/api/health"]);
}

fn concrete(path: &str) -> String {
    path.replace("{site}", "walk").replace("{id}", "0193e9a2-7d1c-7c3a-9f64-2f8e6a1b5c0d")
}

/// A body that parses nowhere, so that a call that is let in changes nothing.
async fn status(server: &Server, token: Option<&str>, method: &str, path: &str) -> u16 {
    let body: Option<Value> = (method != "GET" && method != "DELETE").then(|| json!({ "nothing": true }));
    server.call_as(token, method, &concrete(path), body).await.status.as_u16()
}

#[tokio::test]
async fn every_route_refuses_strangers_and_the_wrong_roles_and_lets_the_right_ones_in() {
    let server = idle().await;
    let mut tokens = Vec::new();
    for role in Role::ALL {
        tokens.push((*role, server.token(&format!("walk-{role}"), role.as_str()).await));
    }
    for (method, path, access) in TABLE {
        let permission = match access {
            Access::Needs(permission) => permission,
            // It has a test of its own.
            Access::Event => continue,
            Access::Public => {
                assert_eq!(status(&server, None, method, path).await, 200, "{method} {path}");
                continue;
            }
        };
        for stranger in [None, Some(""), Some("cw_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), Some("Bearer x")] {
            assert_eq!(status(&server, stranger, method, path).await, 401, "{method} {path} {stranger:?}");
        }
        for (role, token) in &tokens {
            // This one would be let in, and work.
            if *path == "/v1/admin/repair" && *role == Role::Admin {
                continue;
            }
            let status = status(&server, Some(token), method, path).await;
            match role.may(*permission) {
                true => assert!(![401, 403].contains(&status), "{role} {method} {path}: {status}"),
                false => assert_eq!(status, 403, "{role} {method} {path}"),
            }
        }
    }
    assert!(!Role::Viewer.may(Permission::Write));
    server.stop().await;
}

#[tokio::test]
async fn a_token_is_taken_from_either_header() {
    let server = idle().await;
    let calls = [
        ("x-api-key", server.admin.clone(), 200),
        ("authorization", format!("Bearer {}", server.admin), 200),
        ("authorization", format!("bearer {}", server.admin), 200),
        ("authorization", format!("Basic {}", server.admin), 401),
        ("authorization", "Bearer".to_owned(), 401),
        ("authorization", server.admin.clone(), 401),
    ];
    for (name, value, status) in calls {
        let request = server.request("GET", "/api/sites").header(name, &value);
        assert_eq!(server.answer("GET", "/api/sites", request).await.status.as_u16(), status, "{name}: {value}");
    }
    let head = server.request("HEAD", "/api/sites").send().await.unwrap();
    assert_eq!(head.status(), 401, "HEAD is guarded as GET is");
    server.stop().await;
}
