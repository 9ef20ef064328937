//! Which tokens are believed, and what they allow.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::*;
use crate::domain::Role;

#[test]
fn every_algorithm_from_pem_and_from_a_set() {
    for pair in PAIRS.iter() {
        let from_pem = Fixture::trusting(trust(pem_keys(&pair.public_pem).unwrap(), RoleClaim::default()));
        assert_eq!(from_pem.refusal(&pair.token(None)), "accepted");
        assert_eq!(from_pem.refusal(&pair.token(Some("any"))), "accepted", "a PEM key has no id");
        let set = set_keys(&json!([pair.jwk("one")])).unwrap();
        let from_set = Fixture::trusting(trust(set, RoleClaim::default()));
        assert_eq!(from_set.refusal(&pair.token(Some("one"))), "accepted");
        assert_eq!(from_set.refusal(&pair.token(None)), "accepted");
        assert_eq!(from_set.refusal(&pair.token(Some("two"))), "U TOKEN_INVALID", "an unknown kid");
        assert_eq!(from_set.refusal(&own(&json!({}))), "U TOKEN_INVALID", "HS256 with a secret");
    }
    assert_eq!(Fixture::own().refusal(&own(&json!({}))), "accepted");
}

#[test]
fn the_key_id_only_picks() {
    let all: Vec<Value> = PAIRS.iter().zip(["a", "b", "c"]).map(|(pair, id)| pair.jwk(id)).collect();
    let fixture = Fixture::trusting(trust(set_keys(&json!(all)).unwrap(), RoleClaim::default()));
    assert_eq!(fixture.refusal(&PAIRS[0].token(Some("a"))), "accepted");
    assert_eq!(fixture.refusal(&PAIRS[0].token(Some("b"))), "U TOKEN_INVALID");
    assert_eq!(fixture.refusal(&PAIRS[1].token(Some("../../etc/passwd"))), "U TOKEN_INVALID");
}

#[test]
fn the_token_does_not_choose_the_algorithm() {
    for pair in PAIRS.iter() {
        let fixture = Fixture::trusting(trust(pem_keys(&pair.public_pem).unwrap(), RoleClaim::default()));
        // The classic: HMAC with the public key, which everybody has, as the secret.
        let der: String = pair.public_pem.lines().filter(|line| !line.starts_with('-')).collect();
        for secret in [pair.public_pem.as_bytes(), pair.public_pem.trim().as_bytes(), der.as_bytes()] {
            for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                let key = EncodingKey::from_secret(secret);
                let forged = sign(&Header::new(algorithm), &claims(&json!({})), &key);
                assert_eq!(fixture.refusal(&forged), "U TOKEN_INVALID");
            }
        }
    }
    let rsa = Fixture::trusting(trust(pem_keys(&PAIRS[0].public_pem).unwrap(), RoleClaim::default()));
    let other = sign(&Header::new(Algorithm::PS256), &claims(&json!({})), &PAIRS[0].encoding_key());
    assert_eq!(rsa.refusal(&other), "U TOKEN_INVALID", "the right key by another algorithm");
    let own_hs512 = EncodingKey::from_secret(SECRET.as_bytes());
    let other = sign(&Header::new(Algorithm::HS512), &claims(&json!({})), &own_hs512);
    assert_eq!(Fixture::own().refusal(&other), "U TOKEN_INVALID");
}

#[test]
fn unsigned_and_garbage() {
    let fixture = Fixture::own();
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let payload = encode(&claims(&json!({})));
    for algorithm in ["none", "None", "NONE", "nOnE", ""] {
        let header = encode(&json!({ "alg": algorithm, "typ": "JWT" }));
        for signature in ["", "AAAA"] {
            assert_eq!(fixture.refusal(&format!("{header}.{payload}.{signature}")), "U TOKEN_INVALID");
        }
    }
    let good = own(&json!({}));
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = head.split_once('.').unwrap();
    let changed = encode(&claims(&json!({ "role": "admin" })));
    let own_key = json!({ "alg": "HS256", "jwk": { "kty": "oct", "k": "AAAA" }, "jku": "https://evil" });
    for token in [
        "".into(),
        ".".into(),
        "..".into(),
        "...".into(),
        "x".into(),
        "\u{0}".into(),
        "ü.ü.ü".into(),
        head.into(),
        format!("{head}."),
        format!("{good}."),
        format!("{good}.x"),
        format!("{good}="),
        format!("{header}.{changed}.{signature}"),
        format!("{}.{payload}.{signature}", encode(&own_key)),
        format!("{}.{payload}.{signature}", "A".repeat(5000)),
    ] {
        let token: String = token;
        assert_eq!(fixture.refusal(&token), "U TOKEN_INVALID", "{token:?}");
    }
    let mut critical = Header::new(Algorithm::HS256);
    critical.crit = Some(vec!["exp".into()]);
    let token = sign(&critical, &claims(&json!({})), &EncodingKey::from_secret(SECRET.as_bytes()));
    assert_eq!(fixture.refusal(&token), "U TOKEN_INVALID");
    let other_secret = EncodingKey::from_secret(b"another secret that is long enough");
    let token = sign(&Header::new(Algorithm::HS256), &claims(&json!({})), &other_secret);
    assert_eq!(fixture.refusal(&token), "U TOKEN_INVALID");
}

#[test]
fn registered_claims() {
    let fixture = Fixture::own();
    let table = [
        (json!({}), "accepted"),
        (json!({ "aud": ["other", "signalbox"] }), "accepted"),
        (json!({ "aud": "other" }), "U TOKEN_INVALID"),
        (json!({ "aud": [] }), "U TOKEN_INVALID"),
        (json!({ "aud": null }), "U TOKEN_INVALID"),
        (json!({ "aud": [1] }), "U TOKEN_INVALID"),
        (json!({ "aud": "signalbox2" }), "U TOKEN_INVALID"),
        (json!({ "iss": "other" }), "U TOKEN_INVALID"),
        (json!({ "iss": ["signalbox"] }), "U TOKEN_INVALID"),
        (json!({ "iss": null }), "U TOKEN_INVALID"),
        (json!({ "sub": null }), "U TOKEN_INVALID"),
        (json!({ "sub": "" }), "U TOKEN_INVALID"),
        (json!({ "sub": "a\nb" }), "U TOKEN_INVALID"),
        (json!({ "sub": "x".repeat(257) }), "U TOKEN_INVALID"),
        (json!({ "sub": 7 }), "U TOKEN_INVALID"),
        (json!({ "exp": null }), "U TOKEN_INVALID"),
        (json!({ "exp": "never" }), "U TOKEN_INVALID"),
        (json!({ "exp": 1e300 }), "U TOKEN_INVALID"),
        (json!({ "exp": NOW }), "U TOKEN_EXPIRED"),
        (json!({ "exp": NOW - 1 }), "U TOKEN_EXPIRED"),
        (json!({ "exp": NOW + 1 }), "accepted"),
        (json!({ "exp": NOW as f64 + 0.5 }), "accepted"),
        (json!({ "exp": NOW - 1, "aud": "other" }), "U TOKEN_INVALID"),
        (json!({ "nbf": NOW + 2 }), "accepted"),
        (json!({ "nbf": NOW + 3 }), "U TOKEN_INVALID"),
        (json!({ "nbf": "soon" }), "U TOKEN_INVALID"),
        (json!({ "jti": 7 }), "U TOKEN_INVALID"),
        (json!({ "iat": "then" }), "U TOKEN_INVALID"),
    ];
    for (changes, expected) in table {
        assert_eq!(fixture.refusal(&own(&changes)), expected, "{changes}");
    }
}

#[test]
fn at_most_8_kib() {
    let fixture = Fixture::own();
    let sized = |padding: usize| own(&json!({ "note": "x".repeat(padding) }));
    assert!(sized(5900).len() <= 8192 && fixture.refusal(&sized(5900)) == "accepted");
    assert!(sized(6100).len() > 8192 && fixture.refusal(&sized(6100)) == "U TOKEN_INVALID");
}

#[test]
fn roles_and_scopes() {
    let fixture = Fixture::own();
    let both = "openid secrets:read secrets:grant";
    for (role, reads, grants) in [("worker", true, false), ("admin", false, true), ("viewer", false, false)] {
        let principal = fixture.principal(&own(&json!({ "role": role, "scope": both }))).unwrap();
        assert_eq!(
            (principal.role.as_str(), principal.reads_secrets, principal.grants_secrets),
            (role, reads, grants)
        );
        let without = fixture.principal(&own(&json!({ "role": role }))).unwrap();
        assert!(!without.reads_secrets && !without.grants_secrets);
    }
    for role in [json!(null), json!("root"), json!("Admin"), json!(" admin"), json!(1), json!({}), json!([])]
    {
        assert_eq!(fixture.refusal(&own(&json!({ "role": role }))), "P ROLE_UNKNOWN", "{role}");
    }
    let near = own(&json!({ "scope": "secrets:reader xsecrets:read secrets:read:all" }));
    assert!(!fixture.principal(&near).unwrap().reads_secrets);
}

#[test]
fn grants() {
    let fixture = Fixture::own();
    let granted = |changes: Value| fixture.principal(&own(&changes)).unwrap().granted();
    assert_eq!(granted(json!({ "role": "worker" })), "nothing");
    assert_eq!(granted(json!({ "role": "viewer" })), "*");
    assert_eq!(granted(json!({ "role": "admin" })), "*");
    assert_eq!(granted(json!({ "role": "admin", "grants": [] })), "nothing");
    assert_eq!(granted(json!({ "grants": ["providers/*", "settings/a"] })), "providers/*, settings/a");
    for bad in [json!(["providers*"]), json!(["a", ""]), json!(vec!["a"; 65])] {
        assert_eq!(fixture.refusal(&own(&json!({ "grants": bad }))), "P GRANT_UNKNOWN");
    }
    assert_eq!(fixture.refusal(&own(&json!({ "grants": { "a": 1 } }))), "U TOKEN_INVALID");
}

#[test]
fn mapped_role_claims() {
    let claim = |path: &str| {
        let values =
            vec![("ops".into(), Role::Admin), ("app".into(), Role::Worker), ("app2".into(), Role::Viewer)];
        RoleClaim::new(path, values)
    };
    let role = |path: &str, changes: &Value| {
        let fixture = Fixture::trusting(trust(own_keys(), claim(path)));
        fixture.principal(&own(changes)).ok().map(|principal| principal.role)
    };
    let nested = json!({ "role": null, "realm_access": { "roles": ["app2", "x", "ops", 3, "app"] } });
    assert_eq!(role("realm_access.roles", &nested), Some(Role::Admin), "the first that is listed");
    assert_eq!(
        role("realm_access.roles", &json!({ "realm_access": { "roles": "app" } })),
        Some(Role::Worker)
    );
    assert_eq!(role("https://x.org/roles", &json!({ "https://x.org/roles": ["app2"] })), Some(Role::Viewer));
    assert_eq!(role("a.b.c", &json!({ "a": { "b.c": "app" } })), Some(Role::Worker));
    for absent in
        [json!({}), json!({ "realm_access": [] }), json!({ "realm_access": { "roles": ["admin"] } })]
    {
        assert_eq!(role("realm_access.roles", &absent), None, "{absent}");
    }
}

#[test]
fn the_identity_map_says_it_all() {
    let map = r#"
        [[identity]]
        issuer = "signalbox"
        subject = "system:serviceaccount:apps:worker"
        audience = "signalbox"
        role = "worker"
        selectors = ["providers/*"]
        scopes = ["secrets:read"]
    "#;
    let mut trust = trust(own_keys(), RoleClaim::default());
    trust.identities = IdentityMap::parse(map).unwrap();
    let fixture = Fixture::trusting(trust);
    let subject = "system:serviceaccount:apps:worker";
    let changes = json!({ "sub": subject, "role": "admin", "grants": ["*"], "scope": "secrets:grant" });
    let principal = fixture.principal(&own(&changes)).unwrap();
    assert_eq!(
        (principal.role, principal.granted(), principal.reads_secrets),
        (Role::Worker, "providers/*".into(), true)
    );
    assert!(!principal.grants_secrets);
    let other = own(&json!({ "sub": "system:serviceaccount:apps:other", "role": null }));
    assert_eq!(fixture.refusal(&other), "P ROLE_UNKNOWN");
    for bad in [
        "[[identity]]\nissuer = \"a\"",
        &map.replace("worker\"\n", "root\"\n"),
        &map.replace("role", "roles"),
    ] {
        assert!(IdentityMap::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_key_counts_for_its_own_issuer_only() {
    let mut both = trust(own_keys(), RoleClaim::default());
    both.issuers.push(TrustedIssuer {
        issuer: "https://id.example".into(),
        audiences: vec!["signalbox".into()],
        keys: pem_keys(&PAIRS[2].public_pem).unwrap(),
        role: RoleClaim::default(),
    });
    let fixture = Fixture::trusting(both);
    assert_eq!(fixture.refusal(&PAIRS[2].token(None)), "U TOKEN_INVALID", "says that it is ours");
    let header = Header::new(Algorithm::EdDSA);
    let token = sign(&header, &claims(&json!({ "iss": "https://id.example" })), &PAIRS[2].encoding_key());
    assert_eq!(fixture.refusal(&token), "accepted");
    assert_eq!(fixture.refusal(&own(&json!({ "iss": "https://id.example" }))), "U TOKEN_INVALID");
}

#[test]
fn what_was_verified_still_expires_and_is_revoked() {
    let fixture = Fixture::own();
    let tokens =
        ["a", "b", "c"].map(|id| own(&json!({ "jti": id, "sub": if id == "c" { "cd" } else { "ci" } })));
    let all = |fixture: &Fixture| tokens.clone().map(|token| fixture.refusal(&token));
    assert_eq!(all(&fixture), ["accepted"; 3]);
    fixture.revoke(&Revocation::Token { token_id: "a".into() });
    assert_eq!(all(&fixture), ["U TOKEN_REVOKED", "accepted", "accepted"]);
    let issued_until = DateTime::from_timestamp(NOW, 0).unwrap();
    fixture.revoke(&Revocation::Subject { issuer: OWN_NAME.into(), subject: "ci".into(), issued_until });
    assert_eq!(all(&fixture), ["U TOKEN_REVOKED", "U TOKEN_REVOKED", "accepted"]);
    fixture.later(59_999);
    assert_eq!(fixture.refusal(&tokens[2]), "accepted");
    let principal = fixture.principal(&tokens[2]).unwrap();
    fixture.later(1);
    assert_eq!(fixture.refusal(&tokens[2]), "U TOKEN_EXPIRED");
    assert!(fixture.authenticator.check_still_valid(&principal).is_err(), "open streams learn it too");
}

#[test]
fn keys_that_are_refused() {
    for pem in [
        PAIRS[0].private_pem.as_str(),
        "",
        "x",
        "-----BEGIN CERTIFICATE-----\n",
        &PAIRS[1].public_pem.repeat(2),
    ] {
        assert!(matches!(pem_keys(pem), Err(TokenKeyError::Unusable { .. })));
    }
    let p384 = Pair::generate(Algorithm::ES384, &rcgen::PKCS_ECDSA_P384_SHA384);
    assert!(pem_keys(&p384.public_pem).is_err());
    for secret in ["", "short", &"x".repeat(40), "a-string-secret-at-least-256-bits-long"] {
        assert!(matches!(VerificationKeys::of_secret(&secret.into()), Err(TokenKeyError::Secret(_))));
    }
    let symmetric = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET) });
    assert!(set_keys(&json!([symmetric])).is_err());
    assert!(set_keys(&json!([])).is_err());
    let mut foreign = PAIRS[0].jwk("a");
    foreign["use"] = "enc".into();
    assert!(set_keys(&json!([foreign.clone()])).is_err());
    let unknown = json!({ "kty": "XYZ", "kid": "b" });
    assert!(
        set_keys(&json!([foreign, unknown, PAIRS[1].jwk("c")])).is_ok(),
        "what is not for us is passed over"
    );
    let mut small = PAIRS[0].jwk("a");
    small["n"] = URL_SAFE_NO_PAD.encode([0xc3; 128]).into();
    assert!(set_keys(&json!([small])).is_err(), "1,024 bits");
}

#[test]
fn issued_tokens_are_accepted() {
    let fixture = Fixture::own();
    let new = NewToken {
        subject: "fleet".into(),
        role: Role::Worker,
        grants: vec![Pattern::Prefix("providers/".into())],
        scopes: vec![Scope::SecretsRead],
        ttl: Duration::from_secs(60),
    };
    let issued =
        Fixture::issuer().issue(new.clone(), fixture.clock.now()).unwrap_or_else(|error| panic!("{error}"));
    let principal = fixture.principal(issued.token.expose()).unwrap();
    assert_eq!((principal.subject.as_str(), principal.granted().as_str()), ("fleet", "providers/*"));
    assert_eq!((principal.token_id, principal.expires_at), (Some(issued.token_id), issued.expires_at));
    assert!(principal.reads_secrets);

    let fields = |new: NewToken| match Fixture::issuer().issue(new, fixture.clock.now()) {
        Err(Error::Invalid(found)) => found.into_iter().map(|violation| violation.field).collect(),
        _ => Vec::new(),
    };
    let bad = NewToken { subject: String::new(), role: Role::Admin, ttl: Duration::ZERO, ..new.clone() };
    assert_eq!(fields(bad), ["subject", "ttl", "include_secrets"]);
    let long =
        NewToken { ttl: Duration::from_secs(367 * 24 * 3600), subject: "x".repeat(129), ..new.clone() };
    assert_eq!(fields(long), ["subject", "ttl"]);
    let name = Pattern::Prefix(format!("{}/", "a".repeat(300)));
    assert_eq!(fields(NewToken { grants: vec![name; 64], ..new }), ["grants"]);
}

#[test]
fn the_first_start_makes_a_secret_and_an_admin() {
    let home = tempfile::tempdir().unwrap();
    let (key, admin) = (home.path().join("jwt.key"), home.path().join("admin.token"));
    let secret = load_or_create_secret(&key).unwrap_or_default();
    assert!(load_or_create_secret(&key).unwrap_or_default().trimmed() == secret, "made once");
    let fixture =
        Fixture::trusting(trust(VerificationKeys::of_secret(&secret).unwrap(), RoleClaim::default()));
    let issuer = TokenIssuer::new(&secret).unwrap();
    let made = bootstrap_admin(&issuer, &admin, fixture.clock.now()).unwrap_or_default();
    assert!(made.is_some_and(|made| made.expires_at.timestamp() == NOW + 365 * 24 * 3600));
    assert!(
        bootstrap_admin(&issuer, &admin, fixture.clock.now()).is_ok_and(|made| made.is_none()),
        "never over an existing file"
    );
    let written: SecretText = crate::crypto::private_file::read(&admin).unwrap_or_default().trimmed();
    let principal = fixture.principal(written.expose()).unwrap();
    assert!(principal.role == Role::Admin && principal.grants_secrets && principal.granted() == "*");
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(
        text in "[A-Za-z0-9_.=-]{0,200}",
        claim in "(iss|aud|sub|exp|nbf|iat|jti|role|grants|scope)",
        number in any::<f64>(),
        whole in any::<i64>(),
        word in ".{0,20}",
    ) {
        let fixture = Fixture::own();
        prop_assert!(fixture.authenticator.authenticate(&text).is_err());
        for value in [json!(number), json!(whole), json!(word), json!([word]), json!({ &word: whole }), json!(true)] {
            let answer = fixture.authenticator.authenticate(&own(&json!({ &claim: value })));
            let internal = matches!(answer, Err(Error::Internal { .. }));
            prop_assert!(!internal);
        }
    }
}
