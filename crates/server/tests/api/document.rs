//! The OpenAPI document: served, valid in itself, and complete.

use crate::support::idle;
use certwright_server::access::Access;
use serde_json::Value;

#[tokio::test]
async fn the_document_is_served_as_openapi_3_1_and_every_reference_leads_somewhere() {
    let server = idle().await;
    let document = server.call_as(None, "GET", "/openapi.json", None).await.is(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    server.stop().await;
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            references.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|value| collect(value, references));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

#[test]
fn every_operation_says_what_it_is_needs_and_answers() {
    let document = serde_json::to_value(certwright_server::openapi()).unwrap();
    let mut ids = std::collections::BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let what = format!("{method} {path}");
            assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{what} has no summary");
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "the operation id {id} is there twice ({what})");
            assert!(operation["tags"].as_array().is_some_and(|tags| tags.len() == 1), "{what} has no tag");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|code| code.starts_with('2')), "{what} never succeeds");
            for (code, response) in responses.iter().filter(|(code, _)| code.starts_with(['4', '5'])) {
                let health = path == "/api/health";
                assert!(health || response["content"]["application/problem+json"].is_object(), "{what} {code} is no problem document");
            }
            let variables = path.matches('{').count();
            let declared = operation["parameters"].as_array().map_or(0, |all| all.iter().filter(|one| one["in"] == "path").count());
            assert_eq!(variables, declared, "{what} does not declare its path");
            let ways = match certwright_server::access::of(&method.to_uppercase(), path) {
                Access::Public => 0,
                Access::Event => 1,
                Access::Needs(_) => 2,
            };
            assert_eq!(operation["security"].as_array().map_or(0, Vec::len), ways, "{what}");
        }
    }
    let upload = &document["paths"]["/api/static/provision"]["post"]["requestBody"]["content"]["multipart/form-data"];
    assert!(upload["schema"].is_object());
}
