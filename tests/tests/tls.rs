//! TLS between a node and the operator's tool, with certificates that the tool made.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use continuum_tests::{Admin, Launch, Node, admin::Ran};

/// A folder of certificates: the node `db1`, and the caller `me`.
struct Certificates(PathBuf);

impl Certificates {
    fn create(admin: &Admin, folder: &str) -> Certificates {
        let folder = admin.home().join(folder);
        let dir = folder.to_str().unwrap();
        admin.ok(&["cert", "create", "--dir", dir, "--node", "db1", "--client", "me"]);
        Certificates(folder)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Runs the tool as `caller`, believing this authority.
    fn run(&self, admin: &Admin, caller: Option<(&Certificates, &str)>, words: &[&str]) -> Ran {
        let mut all = vec![
            "--timeout".to_owned(),
            "3s".to_owned(),
            "--tls-ca".to_owned(),
            self.file("ca.pem"),
        ];
        if let Some((certificates, name)) = caller {
            all.extend(["--tls-cert".to_owned(), certificates.file(&format!("{name}.pem"))]);
            all.extend(["--tls-key".to_owned(), certificates.file(&format!("{name}-key.pem"))]);
        }
        all.extend(words.iter().map(|word| (*word).to_owned()));
        Ran::of(admin.command(all).output().unwrap())
    }

    fn launch(&self) -> Launch {
        Launch::new()
            .environment("CONTINUUM_TLS_CA", &self.file("ca.pem"))
            .environment("CONTINUUM_TLS_CERT", &self.file("db1.pem"))
            .environment("CONTINUUM_TLS_KEY", &self.file("db1-key.pem"))
    }

    /// Takes over the files of the node and the authority from elsewhere.
    fn become_like(&self, other: &Certificates) {
        for name in ["ca.pem", "db1.pem", "db1-key.pem"] {
            fs::copy(other.0.join(name), self.0.join(name)).unwrap();
        }
    }
}

fn status() -> [&'static str; 3] {
    ["status", "-o", "json"]
}

fn refused(ran: &Ran, words: &str) {
    assert_eq!(ran.code, Some(78), "{}", ran.err);
    assert!(ran.err.contains(words), "{words}: {}", ran.err);
}

#[tokio::test]
async fn callers_and_nodes_show_each_other_certificates_of_one_authority() {
    let maker = Admin::alone();
    let (ours, others) = (
        Certificates::create(&maker, "ours"),
        Certificates::create(&maker, "others"),
    );
    let node = ours.launch().start().await;
    let admin = Admin::of(&node);

    let answered = ours.run(&admin, Some((&ours, "me")), &status());
    assert_eq!(answered.code, Some(0), "{}", answered.err);
    // Nodes are callers too.
    assert_eq!(ours.run(&admin, Some((&ours, "db1")), &status()).code, Some(0));
    refused(&ours.run(&admin, None, &status()), "asks for a certificate");
    refused(
        &ours.run(&admin, Some((&others, "me")), &status()),
        "asks for a certificate",
    );
    refused(
        &others.run(&admin, Some((&ours, "me")), &status()),
        "not of the authority given",
    );
    let deaf = Node::start().await;
    let secret = ours.run(&Admin::of(&deaf), Some((&ours, "me")), &status());
    refused(&secret, "does not speak TLS");
    let plain = admin.run(&["--timeout", "3s", "status"]);
    assert_eq!(plain.code, Some(75), "{}", plain.err);
    assert!(plain.err.contains("does the node speak TLS?"), "{}", plain.err);

    // What a context says is as good as what the command line says.
    let endpoint = node.grpc().to_string();
    let (ca, cert, key) = (ours.file("ca.pem"), ours.file("me.pem"), ours.file("me-key.pem"));
    let home = ["config", "set", "home", "--endpoint", &endpoint];
    let tls = ["--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key];
    maker.ok(&[&home[..], &tls[..]].concat());
    assert!(maker.ok(&["status"]).out.contains("ready"));
    // HTTP on loopback stays plain.
    assert!(node.client().get("/readyz").await.unwrap().status == 200);
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_without_a_restart_and_a_broken_one_is_not() {
    let maker = Admin::alone();
    let (ours, next) = (
        Certificates::create(&maker, "ours"),
        Certificates::create(&maker, "next"),
    );
    let node = ours.launch().start().await;
    let admin = Admin::of(&node);
    // The authority as it was, for what is made with it later.
    let before = Certificates(admin.home().join("before"));
    fs::create_dir(&before.0).unwrap();
    for file in fs::read_dir(&ours.0).unwrap() {
        let path = file.unwrap().path();
        fs::copy(&path, before.0.join(path.file_name().unwrap())).unwrap();
    }

    fs::write(ours.file("db1.pem"), "no certificate").unwrap();
    told(&node, "is not used").await;
    assert_eq!(before.run(&admin, Some((&before, "me")), &status()).code, Some(0));

    ours.become_like(&next);
    told(&node, "renewed certificate\"").await;
    assert_eq!(next.run(&admin, Some((&next, "me")), &status()).code, Some(0));
    refused(
        &before.run(&admin, Some((&before, "me")), &status()),
        "not of the authority given",
    );
}

/// Waits until the node's log says so.
async fn told(node: &Node, words: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !node.log().contains(words) {
        assert!(Instant::now() < deadline, "{}", node.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn files_that_do_not_fit_are_named_before_anything_is_opened() {
    let maker = Admin::alone();
    let ours = Certificates::create(&maker, "ours");
    let others = Certificates::create(&maker, "others");
    let absent = ours.file("absent.pem");
    for (variable, path, words) in [
        ("CONTINUUM_TLS_CERT", absent.as_str(), "cannot read"),
        ("CONTINUUM_TLS_KEY", &ours.file("ca.pem"), "holds no private key"),
        (
            "CONTINUUM_TLS_KEY",
            &others.file("db1-key.pem"),
            "cannot be used together",
        ),
        ("CONTINUUM_TLS_CA", &ours.file("db1-key.pem"), "holds no certificate"),
    ] {
        let launch = ours.launch().environment(variable, path);
        let mut node = launch.spawn();
        let status = node.wait_ended(Duration::from_secs(10)).await;
        assert_eq!(status.code(), Some(78), "{}", node.log());
        let log = node.log();
        assert!(log.contains(words) && log.contains(path), "{words}: {log}");
        assert!(!launch.data_directory().exists(), "nothing was made");
    }
}

#[tokio::test]
async fn certificates_are_never_written_over_and_an_authority_is_used_again() {
    let admin = Admin::alone();
    let ours = Certificates::create(&admin, "ours");
    let dir = ours.file("");
    let again = admin.run(&["cert", "create", "--dir", &dir, "--node", "db2", "--client", "me"]);
    assert_eq!(again.code, Some(73), "{}", again.err);
    assert!(!Path::new(&ours.file("db2.pem")).exists(), "nothing was made");

    admin.ok(&["cert", "create", "--dir", &dir, "--node", "db2=10.0.0.2"]);
    let node = ours
        .launch()
        .environment("CONTINUUM_TLS_CERT", &ours.file("db2.pem"))
        .environment("CONTINUUM_TLS_KEY", &ours.file("db2-key.pem"))
        .start()
        .await;
    assert_eq!(
        ours.run(&Admin::of(&node), Some((&ours, "me")), &status()).code,
        Some(0)
    );

    use std::os::unix::fs::PermissionsExt as _;
    let mode = |name: &str| fs::metadata(ours.file(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(["ca-key.pem", "me-key.pem", "db2-key.pem"].map(mode), [0o600; 3]);

    fs::remove_file(ours.file("ca-key.pem")).unwrap();
    let halved = admin.run(&["cert", "create", "--dir", &dir, "--client", "you"]);
    assert_eq!(halved.code, Some(66), "{}", halved.err);
}
