//! The node's own pages, unknown routes, the document and the page that shows it.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;

#[tokio::test]
async fn the_root_says_what_this_is() {
    let node = node().await;
    let root = node.get("/").send().await.json();
    assert_eq!(root["tagline"], "Can't use it unless you add to it");
    assert_eq!(root["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        root["endpoints"],
        json!({"register": "/federation/register", "contribute": "/federation/contribute", "knowledge": "/federation/knowledge",
            "status": "/federation/status", "stats": "/federation/stats"})
    );
    let health = node.get("/health").send().await.json();
    assert_eq!(
        (&health["status"], &health["timestamp"]),
        (&json!("healthy"), &json!("2026-01-02T03:04:05.678901+00:00"))
    );
    assert_eq!(health["service"], root["service"]);
    assert_eq!(
        node.get("/version").send().await.json()["version"],
        env!("CARGO_PKG_VERSION")
    );
    let stats = node.get("/federation/stats").send().await.json();
    assert_eq!(stats["status"], "ok");
    assert_eq!(
        stats["federation"],
        json!({"total_concepts": 0, "total_contributors": 0, "average_quality": 0.0})
    );
}

#[tokio::test]
async fn probes_follow_the_nodes_health() {
    let node = node().await;
    assert_eq!(node.get("/livez").send().await.json(), json!({"status": "ok"}));
    let verbose = node.get("/readyz?verbose").send().await.json();
    assert_eq!(
        verbose,
        json!({"status": "ok", "checks": [{"name": "process", "status": "ok"}, {"name": "engine", "status": "ok"}]})
    );
    assert_eq!(
        node.get("/livez?verbose=1").send().await.json()["checks"],
        json!([{"name": "process", "status": "ok"}])
    );
    node.health.fail("engine", "the disk is gone");
    let refused = node.get("/readyz").send().await;
    assert!(
        refused
            .refusal(503, "not_ready")
            .as_str()
            .unwrap()
            .contains("engine: the disk is gone")
    );
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(node.get("/livez").send().await.status, 200, "not ready is still alive");
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems_too() {
    let node = node().await;
    for path in [
        "/nowhere",
        "/federation",
        "/federation/status/",
        "/docs/nothing.js",
        "/docs/../etc/passwd",
        "/%00",
        "/docs/%2e%2e/x",
    ] {
        node.get(path).send().await.refusal(404, "not_found");
    }
    let wrong = [
        ("GET", "/federation/contribute", "POST"),
        ("DELETE", "/federation/register", "POST"),
        ("POST", "/federation/stats", "GET,HEAD"),
        ("OPTIONS", "/federation/knowledge", "POST"),
        ("INVENTED", "/health", "GET,HEAD"),
    ];
    for (method, path, allow) in wrong {
        let refused = node.call(method, path).send().await;
        refused.refusal(405, "method_not_allowed");
        assert_eq!(refused.header("allow"), allow, "{method} {path}");
    }
}

#[tokio::test]
async fn head_has_the_headers_and_no_body() {
    let node = node().await;
    for path in [
        "/",
        "/health",
        "/livez",
        "/readyz",
        "/metrics",
        "/version",
        "/openapi.json",
        "/docs",
        "/federation/stats",
    ] {
        let (get, head) = (node.get(path).send().await, node.call("HEAD", path).send().await);
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
}

#[tokio::test]
async fn request_ids_are_taken_over_or_made() {
    let node = node().await;
    assert_eq!(
        node.get("/")
            .header("x-request-id", "trace-1/2")
            .send()
            .await
            .header("x-request-id"),
        "trace-1/2"
    );
    let long = "x".repeat(129);
    for id in ["", "with space", "zażółć", long.as_str()] {
        assert_eq!(
            node.get("/")
                .header("x-request-id", id)
                .send()
                .await
                .header("x-request-id")
                .len(),
            36,
            "{id:?}"
        );
    }
    let refused = node.get("/nowhere").header("x-request-id", "mine").send().await;
    assert_eq!(refused.json()["request_id"], "mine");
}

#[tokio::test]
async fn a_panic_is_a_problem_and_no_end() {
    let node = node().await;
    for _ in 0..3 {
        node.get("/panic").send().await.refusal(500, "internal");
    }
    assert_eq!(node.get("/health").send().await.status, 200);
}

#[tokio::test]
async fn requests_are_counted_by_route_method_and_status() {
    let node = node().await;
    node.get("/nowhere").send().await;
    node.call("INVENTED", "/health").send().await;
    let metrics = node.get("/metrics").send().await;
    assert_eq!(
        metrics.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    for series in [
        r#"continuum_http_requests_total{route="unmatched",method="GET",status="404"} 1"#,
        r#"continuum_http_requests_total{route="/health",method="other",status="405"} 1"#,
    ] {
        assert!(metrics.text().contains(series), "{}", metrics.text());
    }
}

#[tokio::test]
async fn the_document_covers_every_route_and_its_refusals() {
    let node = node().await;
    let document = node.get("/openapi.json").send().await.json();
    let paths: BTreeSet<&str> = document["paths"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let expected = [
        "/",
        "/docs",
        "/federation/contribute",
        "/federation/knowledge",
        "/federation/register",
        "/federation/stats",
        "/federation/status",
        "/health",
        "/livez",
        "/metrics",
        "/openapi.json",
        "/readyz",
        "/version",
    ];
    assert_eq!(paths, BTreeSet::from(expected));
    assert_eq!(
        document["components"]["securitySchemes"]["node_id"],
        json!({"type": "apiKey", "in": "header", "name": "X-Node-ID", "description": "The node_id of your registration, as UTF-8"})
    );
    let contribute = &document["paths"]["/federation/contribute"]["post"];
    assert_eq!(contribute["security"], json!([{"node_id": []}]));
    let statuses: Vec<&str> = contribute["responses"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        statuses,
        [
            "200", "400", "401", "408", "409", "413", "415", "422", "429", "500", "503"
        ]
    );
    assert!(document["paths"]["/federation/knowledge"]["post"]["responses"]["403"].is_object());
    assert!(document["paths"]["/federation/stats"]["get"]["security"].is_null());
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(
                    response["description"].as_str().is_some_and(|text| !text.is_empty()),
                    "{method} {path} {status}"
                );
            }
        }
    }
    // Every reference leads somewhere.
    let text = document.to_string();
    for part in text.split(r##""$ref":"#/components/schemas/"##).skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
    let problem = &document["components"]["schemas"]["ProblemBody"];
    assert_eq!(
        problem["required"],
        json!(["type", "title", "status", "code", "request_id", "detail"])
    );
}

/// What a page or style sheet would load, by attribute and by `url(…)`.
fn loads(text: &str) -> Vec<String> {
    let quoted = ["src=\"", "href=\"", "url: \"", "action=\""]
        .into_iter()
        .flat_map(|before| {
            text.split(before)
                .skip(1)
                .map(|rest| rest.split('"').next().unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
        });
    let css = text.split("url(").skip(1).map(|rest| {
        rest.split(')')
            .next()
            .unwrap_or_default()
            .trim_matches(['"', '\''])
            .to_owned()
    });
    quoted.chain(css).collect()
}

#[tokio::test]
async fn the_docs_page_loads_nothing_from_another_host() {
    let node = node().await;
    let page = node.get("/docs").send().await;
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, "text/html; charset=utf-8")
    );
    let links = loads(page.text());
    assert_eq!(links.len(), 4, "{links:?}");
    let mut seen = vec![page];
    for link in links {
        let asset = node.get(&format!("/{link}")).send().await;
        assert_eq!(asset.status, 200, "{link}");
        assert!(asset.body.len() > 100, "{link}");
        seen.push(asset);
    }
    for asset in &seen {
        // A browser obeys this whatever else an asset says.
        let policy = asset.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(
            !policy.contains("http") && !policy.contains('*') && !policy.contains("unsafe-eval"),
            "{policy}"
        );
        if asset.header("content-type").starts_with("image") || asset.body.len() > 1_000_000 {
            continue;
        }
        let foreign: Vec<String> = loads(asset.text())
            .into_iter()
            .filter(|url| url.contains("//") && !url.starts_with("data:"))
            .collect();
        assert_eq!(foreign, Vec::<String>::new());
    }
    let start = node.get("/docs/docs.js").send().await;
    assert!(
        start.text().contains("validatorUrl: null"),
        "the badge would ask another host"
    );
    assert!(start.text().contains(r#"url: "openapi.json""#));
    let bundle = node.get("/docs/swagger-ui-bundle.js").send().await;
    assert!(
        bundle.header("content-type").starts_with("text/javascript"),
        "{}",
        bundle.header("content-type")
    );
    let slash = node.get("/docs/").send().await;
    assert_eq!((slash.status, slash.header("location")), (308, "../docs"));
}
