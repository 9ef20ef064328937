//! States that the worker does not accept.

use super::*;

/// A replica that holds a key and another resource at revision 5, and refuses revisions.
fn refusing(refused: &'static [u64]) -> Replica {
    let refuse = |snapshot: &Snapshot| match snapshot.revision() {
        revision if refused.contains(&revision) => Err(format!("no {revision}")),
        _ => Ok(()),
    };
    Replica { validation: Validation::new(refuse), ..at_five() }
}

fn refused(replica: &Replica) -> Option<(u64, &str)> {
    replica.rejection().map(|rejection| (rejection.revision, rejection.reason.as_str()))
}

#[test]
fn what_is_not_accepted_is_not_served_and_what_is_gone_in_it_is_revoked() {
    let mut replica = refusing(&[6, 7]);
    let digest = replica.served().digest();
    let applied = replica.apply(changes(6, vec![upsert("settings/a", 6), delete(KEY)], true)).unwrap();
    assert!(applied.rejected);
    assert_eq!(told(&applied), [(EventKind::Revoked, KEY)]);
    assert_eq!(refused(&replica), Some((6, "no 6")));
    assert_eq!((replica.served().revision(), replica.served().digest()), (5, digest));
    assert_eq!(key_secret(&replica), Err(SecretError::Revoked));
    assert_eq!(replica.served().secret("settings/a", "api_key.secret").unwrap().expose(), "sk-5");
    replica.apply(changes(7, vec![upsert(KEY, 7)], true)).unwrap();
    assert_eq!(key_secret(&replica), Err(SecretError::Revoked), "what has come back is not accepted either");
    replica.apply(progress(9, &replica.known.digest().to_bytes())).unwrap();
    assert_eq!(replica.served().revision(), 5, "progress does not make it a later revision");
    assert_eq!(replica.served_at().resume_token, "synced-5");
    assert_eq!(replica.begin_stream().resume_token, "progress-9", "what is refused is not sent again");
    assert!(!replica.apply(synced(9)).unwrap().rejected);
    assert_eq!(refused(&replica), Some((7, "no 7")));
    let applied = replica.apply(changes(10, vec![upsert("settings/b", 10)], true)).unwrap();
    let expected =
        [(EventKind::Updated, KEY), (EventKind::Updated, "settings/a"), (EventKind::Created, "settings/b")];
    assert_eq!(told(&applied), expected);
    assert_eq!((refused(&replica), key_secret(&replica).unwrap().as_str()), (None, "sk-7"));
    assert_eq!((replica.served().revision(), replica.served_at()), (10, &replica.cursor));
}

#[test]
fn a_snapshot_that_is_not_accepted_is_not_served() {
    let mut replica = refusing(&[9]);
    replica.apply(reset(ResetReason::Compacted)).unwrap();
    replica.apply(snapshot(9, &["settings/b"], true)).unwrap();
    let applied = replica.apply(synced(9)).unwrap();
    assert_eq!(told(&applied), [(EventKind::Revoked, KEY), (EventKind::Revoked, "settings/a")]);
    assert_eq!((names(&replica), applied.rejected), (vec![KEY.to_owned(), "settings/a".to_owned()], true));
    assert_eq!(replica.served_at(), &Cursor::default(), "no stream goes on from there");
    let digest = replica.known.digest().to_bytes();
    assert!(replica.apply(progress(9, &digest)).is_ok());
    replica.apply(changes(10, vec![upsert("settings/c", 10)], true)).unwrap();
    assert_eq!(names(&replica), ["settings/b", "settings/c"]);
    assert!(replica.served().revoked.is_empty());
}

#[test]
fn a_revocation_holds_while_the_revision_that_follows_is_not_accepted() {
    let mut replica = refusing(&[7]);
    replica.apply(revoked(7)).unwrap();
    replica.apply(changes(7, vec![upsert(KEY, 7)], true)).unwrap();
    replica.apply(progress(8, &[])).unwrap();
    assert_eq!(key_secret(&replica), Err(SecretError::Revoked));
    replica.apply(changes(9, vec![upsert("settings/b", 9)], true)).unwrap();
    assert_eq!(key_secret(&replica).unwrap(), "sk-7");
}
