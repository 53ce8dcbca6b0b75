use std::{fs, path::Path};

use super::*;

fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn row(key: &str) -> usize {
    ROWS.iter().position(|row| row.key == key).expect("a known key")
}

fn written(directory: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = directory.path().join("continuum.toml");
    fs::write(&path, text).unwrap();
    path
}

fn origin(effective: &Effective, key: &str) -> String {
    effective.origins[row(key)].to_string()
}

fn problems(sources: &Sources) -> String {
    load(sources).unwrap_err().to_string()
}

#[test]
fn nothing_given_serves_on_loopback_with_local_data() {
    let effective = load(&Sources::default()).unwrap();
    assert_eq!(effective.settings.node.bind_address.to_string(), "127.0.0.1:7000");
    assert_eq!(effective.settings.node.http_address.to_string(), "127.0.0.1:8000");
    assert_eq!(effective.settings.storage.path, Path::new("continuum-data"));
    assert!(effective.rows().all(|(_, _, origin)| *origin == Origin::Default));
    assert!(effective.without_effect().is_empty());
}

#[test]
fn flag_beats_environment_beats_alias_beats_file_beats_default() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(&directory, "node_id = 'file'\n[storage]\nblock_cache_bytes = '64MiB'\n");
    let mut sources = Sources {
        file: Some(path),
        ..Sources::default()
    };

    let effective = load(&sources).unwrap();
    assert_eq!(effective.settings.node.id.as_deref(), Some("file"));
    assert!(origin(&effective, "node_id").ends_with("continuum.toml:1"));
    assert_eq!(effective.settings.storage.block_cache_bytes, 64 << 20);
    assert!(origin(&effective, "storage.block_cache_bytes").ends_with("continuum.toml:3"));
    assert_eq!(origin(&effective, "http_address"), "default");

    sources.environment = environment(&[("NODE_ID", "alias")]);
    let effective = load(&sources).unwrap();
    assert_eq!(effective.settings.node.id.as_deref(), Some("alias"));
    assert_eq!(origin(&effective, "node_id"), "environment NODE_ID");

    sources
        .environment
        .extend(environment(&[("CONTINUUM_NODE_ID", "environment")]));
    let effective = load(&sources).unwrap();
    assert_eq!(effective.settings.node.id.as_deref(), Some("environment"));
    assert_eq!(origin(&effective, "node_id"), "environment CONTINUUM_NODE_ID");

    sources.flags = vec![(row("node_id"), "flag".to_owned())];
    let effective = load(&sources).unwrap();
    assert_eq!(effective.settings.node.id.as_deref(), Some("flag"));
    assert_eq!(origin(&effective, "node_id"), "flag --node-id");
}

#[test]
fn the_file_may_be_named_by_a_variable() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(&directory, "http_address = '127.0.0.1:9000'\n");
    let environment = environment(&[("CONTINUUM_CONFIG", path.to_str().unwrap())]);
    let effective = load(&Sources {
        environment,
        ..Sources::default()
    })
    .unwrap();
    assert_eq!(effective.settings.node.http_address.port(), 9000);
}

#[test]
fn the_names_the_seed_fixes_are_read() {
    let effective = load(&Sources {
        environment: environment(&[
            ("CONTINUUM_NODE_ID", "my-node-1"),
            ("CONTINUUM_BIND_ADDRESS", "127.0.0.1:7001"),
            ("CONTINUUM_ADVERTISE_ADDRESS", "node1.example.com:7000"),
            ("CONTINUUM_TLS_CERT", "/etc/continuum/cert.pem"),
            ("CONTINUUM_TLS_KEY", "/etc/continuum/key.pem"),
            ("CONTINUUM_TLS_CA", "/etc/continuum/ca.pem"),
            ("CONTINUUM_DISCOVERY_METHODS", "dns,bootstrap"),
            ("CONTINUUM_DNS_DOMAIN", "_continuum._tcp.example.com"),
            ("CONTINUUM_BOOTSTRAP_NODES", "node2:7000,node3:7000"),
            ("CONTINUUM_STORAGE_PATH", "/var/lib/continuum"),
            ("CONTINUUM_RAFT_ELECTION_TIMEOUT", "150,300"),
            ("CONTINUUM_RAFT_HEARTBEAT_INTERVAL", "50"),
            ("CONTINUUM_GOSSIP_FANOUT", "3"),
            ("CONTINUUM_GOSSIP_INTERVAL", "100"),
        ]),
        ..Sources::default()
    })
    .unwrap();
    let settings = &effective.settings;
    assert_eq!(settings.storage.path, Path::new("/var/lib/continuum"));
    assert_eq!(
        settings.discovery.methods,
        [DiscoveryMethod::Dns, DiscoveryMethod::Bootstrap]
    );
    assert_eq!(settings.discovery.bootstrap_nodes, ["node2:7000", "node3:7000"]);
    assert_eq!(settings.raft.election_timeout_ms, (150, 300));
    let warnings = effective.without_effect();
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    assert!(
        warnings
            .iter()
            .any(|warning| warning.starts_with("gossip.fanout = 3 (environment CONTINUUM_GOSSIP_FANOUT)"))
    );
}

#[test]
fn an_unknown_name_is_an_error_that_suggests_the_nearest() {
    let sources = Sources {
        environment: environment(&[("CONTINUUM_HTTP_ADRESS", "127.0.0.1:1")]),
        ..Sources::default()
    };
    let expected = "unknown environment variable `CONTINUUM_HTTP_ADRESS`, did you mean `CONTINUUM_HTTP_ADDRESS`?";
    assert_eq!(problems(&sources), expected);

    let directory = tempfile::tempdir().unwrap();
    let path = written(
        &directory,
        "node_name = 'a'\n\n[storage]\npaht = '/x'\n[quite.something]\nelse = 1\n",
    );
    let told = problems(&Sources {
        file: Some(path),
        ..Sources::default()
    });
    assert!(
        told.contains("continuum.toml:1: unknown key `node_name`, did you mean `node_id`?"),
        "{told}"
    );
    assert!(
        told.contains("continuum.toml:4: unknown key `storage.paht`, did you mean `storage.path`?"),
        "{told}"
    );
    assert!(
        told.contains("unknown key `quite.something`; `continuumd config print` lists all"),
        "{told}"
    );
}

#[test]
fn variables_of_a_kubernetes_service_are_nobodys_mistake() {
    let names = [
        "CONTINUUM_ADMIN_ENDPOINT",
        "CONTINUUM_SERVICE_HOST",
        "CONTINUUM_SERVICE_PORT_GRPC",
        "CONTINUUM_PORT",
        "CONTINUUM_PORT_7000_TCP_ADDR",
    ];
    let environment = names
        .iter()
        .map(|name| ((*name).to_owned(), "10.0.0.1".to_owned()))
        .collect();
    load(&Sources {
        environment,
        ..Sources::default()
    })
    .unwrap();
}

#[test]
fn a_variable_may_name_a_file_that_holds_the_value() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("id");
    fs::write(&path, "from-a-file\n").unwrap();
    let mut sources = Sources {
        environment: environment(&[("CONTINUUM_NODE_ID_FILE", path.to_str().unwrap())]),
        ..Sources::default()
    };
    let effective = load(&sources).unwrap();
    assert_eq!(effective.settings.node.id.as_deref(), Some("from-a-file"));
    assert!(origin(&effective, "node_id").starts_with("environment CONTINUUM_NODE_ID_FILE ("));

    sources
        .environment
        .extend(environment(&[("CONTINUUM_NODE_ID", "direct")]));
    assert!(problems(&sources).contains("are both set"));
}

#[test]
fn an_empty_variable_counts_as_absent() {
    let environment = environment(&[("CONTINUUM_NODE_ID", ""), ("NODE_ID", ""), ("CONTINUUM_NOBODY", "")]);
    let effective = load(&Sources {
        environment,
        ..Sources::default()
    })
    .unwrap();
    assert_eq!(effective.settings.node.id, None);
}

#[test]
fn all_problems_are_told_at_once_with_their_origin() {
    let told = problems(&Sources {
        environment: environment(&[("CONTINUUM_GOSSIP_FANOUT", "many"), ("CONTINUUM_HTTP_ADDRESS", "8000")]),
        flags: vec![
            (row("log.format"), "xml".to_owned()),
            (row("http.idle_timeout_ms"), "5MiB".to_owned()),
        ],
        ..Sources::default()
    });
    assert!(
        told.contains("gossip.fanout (environment CONTINUUM_GOSSIP_FANOUT): expected a whole number, got `many`"),
        "{told}"
    );
    assert!(
        told.contains("expected IP:PORT such as 127.0.0.1:7000, got `8000`"),
        "{told}"
    );
    assert!(
        told.contains("log.format (flag --log-format): expected one of auto, text, json, got `xml`"),
        "{told}"
    );
    assert!(
        told.contains("http.idle_timeout_ms (flag --http-idle-timeout-ms): expected a whole number"),
        "{told}"
    );
}

#[test]
fn an_address_beyond_loopback_is_refused_with_all_ways_out() {
    let mut sources = Sources {
        environment: environment(&[("BIND_ADDRESS", "0.0.0.0:7000")]),
        ..Sources::default()
    };
    let told = problems(&sources);
    assert!(
        told.contains("bind_address = 127.0.0.1:7000") && told.contains("CONTINUUM_INSECURE_OPEN=true"),
        "{told}"
    );
    assert!(told.contains("continuum-admin cert create"), "{told}");
    let mut secured = sources.clone();
    let certificate = [("CONTINUUM_TLS_CERT", "/c.pem"), ("CONTINUUM_TLS_KEY", "/k.pem")];
    secured.environment.extend(environment(&certificate));
    assert!(
        problems(&secured).contains("tls.ca"),
        "everybody could write, unseen by others"
    );
    secured
        .environment
        .extend(environment(&[("CONTINUUM_TLS_CA", "/ca.pem")]));
    load(&secured).unwrap();
    sources
        .environment
        .extend(environment(&[("CONTINUUM_INSECURE_OPEN", "true")]));
    load(&sources).unwrap();
}

#[test]
fn settings_that_do_not_fit_are_refused() {
    let cases = [
        ("CONTINUUM_TLS_CERT", "/c.pem", "belong together"),
        ("CONTINUUM_TLS_CA", "/ca.pem", "the node needs its own"),
        (
            "CONTINUUM_RAFT_ELECTION_TIMEOUT",
            "300,150",
            "the first must be the smaller",
        ),
        ("CONTINUUM_RAFT_HEARTBEAT_INTERVAL", "100", "less than half"),
        ("CONTINUUM_BOOTSTRAP_NODES", "node2", "expected HOST:PORT"),
        ("CONTINUUM_HTTP_ADDRESS", "127.0.0.1:7000", "need a port each"),
        ("CONTINUUM_STORAGE_FREE_HARD_BYTES", "9GiB", "the warning comes first"),
        (
            "CONTINUUM_CONTRIBUTION_KNOWLEDGE_PER_HOUR",
            "0",
            "no setting turns the limit off",
        ),
        ("CONTINUUM_NODE_ID", "a\nb", "control characters"),
    ];
    for (name, value, expected) in cases {
        let told = problems(&Sources {
            environment: environment(&[(name, value)]),
            ..Sources::default()
        });
        assert!(told.contains(expected), "{name}={value}: {told}");
    }
}

#[test]
fn what_is_printed_loads_again_as_the_same_settings() {
    let effective = load(&Sources {
        environment: environment(&[("CONTINUUM_NODE_ID", "quo\"ted # name"), ("BOOTSTRAP_NODES", "a:1,b:2")]),
        ..Sources::default()
    })
    .unwrap();
    for origins in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let path = written(&directory, &effective.to_toml(origins));
        assert_eq!(
            validate_file(&path).unwrap().settings,
            effective.settings,
            "{}",
            effective.to_toml(origins)
        );
    }
    let json = effective.to_json(true);
    assert_eq!(json["node_id"]["origin"], "environment CONTINUUM_NODE_ID");
    assert_eq!(json["bootstrap_nodes"]["in_effect"], true);
    assert_eq!(json["dns_domain"]["in_effect"], false);
    assert_eq!(
        effective.to_json(false)["raft.election_timeout"],
        serde_json::json!([150, 300])
    );
}

#[test]
fn one_rule_names_every_setting() {
    let short = ["bind", "http", "data-dir", "bootstrap"];
    for row in &ROWS {
        let words = row.key.replace('.', "_");
        assert_eq!(row.variable, format!("CONTINUUM_{}", words.to_uppercase()));
        assert!(
            row.flag == words.replace('_', "-") || short.contains(&row.flag),
            "{}",
            row.flag
        );
        assert!(!row.help.ends_with('.') && row.help.len() > 15, "{}", row.key);
    }
}

#[test]
fn what_was_not_set_is_fitted_to_a_small_disk() {
    let small = 240 * (1 << 20);
    let fitted = Storage::default().fitted(small);
    assert_eq!(fitted.segment_bytes, 16 << 20);
    assert_eq!(fitted.flush_log_bytes, small / 32);
    assert_eq!(fitted.log_keep_bytes, small / 16);
    assert_eq!(fitted.free_hard_bytes, 30 << 20);
    assert_eq!(fitted.free_soft_bytes, 60 << 20);
    assert_eq!(Storage::default().fitted(100 << 30), Storage::default());
    let set = Storage {
        segment_bytes: 32 << 20,
        free_hard_bytes: 100 << 20,
        ..Storage::default()
    };
    let fitted = set.fitted(small);
    assert_eq!(fitted.segment_bytes, 32 << 20, "what was set stays");
    assert_eq!(fitted.free_hard_bytes, 100 << 20);
    assert_eq!(fitted.free_soft_bytes, 100 << 20, "the warning does not come after");
}
