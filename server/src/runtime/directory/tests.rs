use super::*;

#[test]
fn a_name_is_made_once_and_kept() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("not/yet/there");
    let first = Directory::open(&path).unwrap().node_name(None).unwrap();
    assert!(first.starts_with("node-") && first.len() == 15, "{first}");
    let directory = Directory::open(&path).unwrap();
    assert_eq!(directory.node_name(None).unwrap(), first);
    assert_eq!(directory.node_name(Some(&first)).unwrap(), first);
    let refused = directory.node_name(Some("another")).unwrap_err();
    assert!(
        refused.to_string().contains(&format!("belongs to the node `{first}`")),
        "{refused}"
    );
    assert_eq!(directory.node_name(None).unwrap(), first, "a refusal changes nothing");
}

#[test]
fn a_name_given_at_first_is_kept() {
    let place = tempfile::tempdir().unwrap();
    assert_eq!(
        Directory::open(place.path()).unwrap().node_name(Some("given")).unwrap(),
        "given"
    );
    assert_eq!(Directory::open(place.path()).unwrap().node_name(None).unwrap(), "given");
    assert_eq!(
        fs::read(place.path().join("node-id")).unwrap(),
        b"given\n",
        "as on disk"
    );
}

#[test]
fn a_second_user_is_refused_and_told_by_whom() {
    let place = tempfile::tempdir().unwrap();
    let first = Directory::open(place.path()).unwrap();
    let refused = Directory::open(place.path()).unwrap_err();
    assert!(
        matches!(&refused, Error::Locked { holder, .. } if *holder == std::process::id().to_string()),
        "{refused}"
    );
    assert!(refused.to_string().contains("--data-dir"), "{refused}");
    let holder = fs::read_to_string(place.path().join("LOCK")).unwrap();
    assert_eq!(holder.trim_end(), std::process::id().to_string(), "as on disk");
    drop(first);
    Directory::open(place.path()).unwrap();
}

#[test]
fn a_file_in_its_place_says_what_to_do() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("file");
    fs::write(&path, "").unwrap();
    let told = Directory::open(&path).unwrap_err().to_string();
    assert!(told.contains("--data-dir must name a directory"), "{told}");
}

#[test]
fn half_a_restore_is_refused_to_all_but_who_restores() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("RESTORING"), "").unwrap();
    let told = Directory::open(place.path()).unwrap_err().to_string();
    assert!(told.contains("run the same restore again"), "{told}");
    drop(Directory::lock(place.path()).unwrap());
    fs::remove_file(place.path().join("RESTORING")).unwrap();
    Directory::open(place.path()).unwrap();
}
