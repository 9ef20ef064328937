//! Who gets in, through the whole server: roles, odd paths, tokens of somebody else's identity provider.

use std::{fs, sync::Arc};

use http::uri::PathAndQuery;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};
use signalbox::{
    domain::{Clock, SystemClock},
    proto::v1::{
        BatchWriteRequest, CompactLogRequest, CreateResourceRequest, CreateTokenRequest,
        DeleteResourceRequest, GetStatusRequest, GetStatusResponse, ListResourcesRequest, RevokeTokenRequest,
        Role, Selector, UpdateResourceRequest, VerifyLogRequest, admin_service_client::AdminServiceClient,
        config_service_client::ConfigServiceClient,
    },
};
use tonic::{Code, client::Grpc};
use tonic_prost::ProstCodec;

use crate::{
    calls::{channel, refusal, token, watch, with},
    harness::{Home, Server, soon},
};

/// What the server says of itself to its administrator.
pub async fn status(server: &Server) -> GetStatusResponse {
    let mut admin = AdminServiceClient::new(channel(server.address()).await);
    admin.get_status(with(&server.admin_token(), GetStatusRequest {})).await.unwrap().into_inner()
}

#[tokio::test]
async fn what_only_admins_may_is_denied_to_workers_and_viewers() {
    let server = Server::start().await;
    let channel = channel(server.address()).await;
    for role in [Role::Worker, Role::Viewer] {
        let token = &token(&server, role, "somebody").await;
        let mut config = ConfigServiceClient::new(channel.clone());
        let mut admin = AdminServiceClient::new(channel.clone());
        let denied = [
            refusal(config.create_resource(with(token, CreateResourceRequest::default())).await),
            refusal(config.update_resource(with(token, UpdateResourceRequest::default())).await),
            refusal(config.delete_resource(with(token, DeleteResourceRequest::default())).await),
            refusal(config.batch_write(with(token, BatchWriteRequest::default())).await),
            refusal(admin.create_token(with(token, CreateTokenRequest::default())).await),
            refusal(admin.revoke_token(with(token, RevokeTokenRequest::default())).await),
            refusal(admin.compact_log(with(token, CompactLogRequest::default())).await),
            refusal(admin.verify_log(with(token, VerifyLogRequest::default())).await),
        ];
        assert_eq!(denied, vec![(Code::PermissionDenied, "ROLE_DENIED".to_owned()); 8][..], "{role:?}");
        let everything = ListResourcesRequest::default();
        assert_eq!(refusal(config.list_resources(with(token, everything)).await).0, Code::Ok, "{role:?}");
    }
}

#[tokio::test]
async fn a_revocation_outlives_the_server() {
    let server = Server::start().await;
    let kept = token(&server, Role::Worker, "kept").await;
    let by_subject = token(&server, Role::Worker, "by-subject").await;
    let mut admin = AdminServiceClient::new(channel(server.address()).await);
    let create = CreateTokenRequest {
        role: Role::Worker.into(),
        subject: "by-id".to_owned(),
        grants: vec![Selector::default()],
        ttl: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
        ..CreateTokenRequest::default()
    };
    let made = admin.create_token(with(&server.admin_token(), create)).await.unwrap().into_inner();
    let by_id = made.token;
    // What a token gets: of a call, and of a stream.
    let answers = async |server: &Server, token: &str| {
        let channel = channel(server.address()).await;
        let list = with(token, ListResourcesRequest::default());
        let listed = ConfigServiceClient::new(channel.clone()).list_resources(list).await;
        [refusal(listed), refusal(watch(&channel, token).await)]
    };
    let good = [(Code::Ok, String::new()), (Code::Ok, String::new())];
    for token in [&kept, &by_subject, &by_id] {
        assert_eq!(answers(&server, token).await, good, "before");
    }
    let revocations = [
        RevokeTokenRequest { token_id: made.token_id, ..RevokeTokenRequest::default() },
        RevokeTokenRequest { subject: "by-subject".to_owned(), ..RevokeTokenRequest::default() },
    ];
    for revocation in revocations {
        admin.revoke_token(with(&server.admin_token(), revocation)).await.unwrap();
    }
    let home = Arc::clone(server.home());
    server.stop().await;
    let server = Server::start_in(&home).await;
    let revoked = (Code::Unauthenticated, "TOKEN_REVOKED".to_owned());
    for token in [&by_subject, &by_id] {
        assert_eq!(answers(&server, token).await, [revoked.clone(), revoked.clone()], "after the restart");
    }
    assert_eq!(answers(&server, &kept).await, good, "who was not revoked gets in");
}

/// Found by a stranger: any word was taken for an id, and was told to be revoked.
#[tokio::test]
async fn regression_what_is_no_id_of_a_token_is_not_told_to_be_revoked() {
    let server = Server::start().await;
    let mut admin = AdminServiceClient::new(channel(server.address()).await);
    let create = CreateTokenRequest {
        role: Role::Viewer.into(),
        subject: "worker".to_owned(),
        ttl: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
        ..CreateTokenRequest::default()
    };
    let made = admin.create_token(with(&server.admin_token(), create)).await.unwrap().into_inner();
    let revoke = async |arguments: &[&str]| {
        let output = server.run(&[&["token", "revoke"], arguments].concat()).await;
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for word in ["worker", "notanid", "a.b.c"] {
        let (code, told) = revoke(&[word]).await;
        assert!(code == Some(2) && told.contains("--subject") && !told.contains(word), "{told}");
    }
    // A token is good for a look at what it says of itself, and for nothing else.
    for arguments in [&[made.token.as_str()][..], &["--id", &made.token], &["--subject", &made.token]] {
        let (code, told) = revoke(arguments).await;
        assert!(code == Some(1) && told.contains("whole token") && told.contains(&made.token_id), "{told}");
        assert!(!told.contains(&made.token), "it is not repeated");
    }
    let (_, told) = revoke(&["--id", "eyJhbGciOiJIUzI1NiJ9.e30.x"]).await;
    assert!(told.contains("its claim `jti`"), "{told}");
    let list = async || {
        let mut config = ConfigServiceClient::new(channel(server.address()).await);
        refusal(config.list_resources(with(&made.token, ListResourcesRequest::default())).await).0
    };
    assert_eq!(list().await, Code::Ok);
    assert_eq!(revoke(&["--id", "of-another-issuer"]).await.0, Some(0), "which has ids of its own form");
    assert_eq!(revoke(&[&made.token_id]).await.0, Some(0));
    assert_eq!(list().await, Code::Unauthenticated);
}

#[tokio::test]
async fn no_second_spelling_of_a_path_leads_anywhere() {
    let server = Server::start().await;
    let channel = channel(server.address()).await;
    let viewer = token(&server, Role::Viewer, "v").await;
    let admin = server.admin_token();
    let right = "/signalbox.v1.AdminService/VerifyLog";
    let odd = [
        "//signalbox.v1.AdminService/VerifyLog",
        "/signalbox.v1.AdminService//VerifyLog",
        "/signalbox.v1.AdminService/VerifyLog/",
        "/signalbox.v1.AdminService/VerifyLog//",
        "/signalbox.v1.AdminService%2fVerifyLog",
        "/signalbox.v1.AdminService%2FVerifyLog",
        "/signalbox.v1.AdminService/Verify%4Cog",
        "/signalbox.v1.adminservice/VerifyLog",
        "/signalbox.v1.AdminService/verifylog",
        "/SIGNALBOX.V1.ADMINSERVICE/VERIFYLOG",
        "/./signalbox.v1.AdminService/VerifyLog",
        "/x/../signalbox.v1.AdminService/VerifyLog",
        "/grpc.health.v1.Health/../signalbox.v1.AdminService/VerifyLog",
        "/grpc.health.v1.Health/Check/signalbox.v1.AdminService/VerifyLog",
        "/signalbox.v1.AdminService;x/VerifyLog",
        "/signalbox.v1.AdminService/VerifyLog;x",
        "/signalbox.v1.AdminService/",
        "/signalbox.v1.AdminService",
        "/signalbox.v1.AdminService/{*rest}",
        "/",
        "/{method}",
    ];
    let call = async |path: &'static str, token: Option<&str>| {
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let request = match token {
            Some(token) => with(token, VerifyLogRequest::default()),
            None => tonic::Request::new(VerifyLogRequest::default()),
        };
        let codec = ProstCodec::<VerifyLogRequest, signalbox::proto::v1::VerifyLogResponse>::default();
        refusal(soon(grpc.unary(request, PathAndQuery::from_static(path), codec)).await)
    };
    assert_eq!(call(right, Some(&admin)).await.0, Code::Ok);
    assert_eq!(call(right, Some(&viewer)).await.0, Code::PermissionDenied);
    assert_eq!(call(right, None).await.0, Code::Unauthenticated);
    // A query is no part of the path; the door and what is behind it have to agree on that.
    assert_eq!(
        call("/signalbox.v1.AdminService/VerifyLog?x=/", Some(&viewer)).await.0,
        Code::PermissionDenied
    );
    for path in odd {
        for token in [None, Some(viewer.as_str()), Some(admin.as_str())] {
            assert_eq!(call(path, token).await, (Code::Unimplemented, "METHOD_UNKNOWN".to_owned()), "{path}");
        }
    }
}

/// Somebody else who makes tokens.
struct Issuer {
    algorithm: Algorithm,
    key: EncodingKey,
    public_pem: String,
}

impl Issuer {
    fn new(algorithm: Algorithm, signature: &'static rcgen::SignatureAlgorithm) -> Self {
        let pair = rcgen::KeyPair::generate_for(signature).unwrap();
        let pem = pair.serialize_pem();
        let key = match algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(pem.as_bytes()),
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
            _ => EncodingKey::from_ed_pem(pem.as_bytes()),
        };
        Self { algorithm, key: key.unwrap(), public_pem: pair.public_key_pem() }
    }

    fn jwk(&self) -> Value {
        let pem = self.public_pem.as_bytes();
        let key = match self.algorithm {
            Algorithm::RS256 => DecodingKey::from_rsa_pem(pem),
            Algorithm::ES256 => DecodingKey::from_ec_pem(pem),
            _ => DecodingKey::from_ed_pem(pem),
        };
        let jwk = Jwk::from_decoding_key(&key.unwrap(), Some(self.algorithm)).unwrap();
        serde_json::to_value(jwk).unwrap()
    }

    fn token(&self, groups: &[&str], changes: &[(&str, &str)]) -> String {
        let now = SystemClock.now().timestamp();
        let mut claims = json!({
            "iss": "https://idp.example", "aud": "llm-config", "sub": "ci@example", "exp": now + 600,
            "realm_access": { "roles": groups }, "grants": ["settings/*"],
        });
        for (claim, value) in changes {
            claims[*claim] = (*value).into();
        }
        jsonwebtoken::encode(&Header::new(self.algorithm), &claims, &self.key).unwrap()
    }
}

/// Starts a server that believes the keys in a file.
async fn trusting(flag: &str, keys: &str) -> Server {
    let home = Arc::new(Home::new());
    fs::write(home.path("keys"), keys).unwrap();
    Server::start_in_with(
        &home,
        &[
            flag,
            "keys",
            "--jwt-issuer",
            "https://idp.example",
            "--jwt-audience",
            "llm-config",
            "--jwt-role-claim",
            "realm_access.roles",
            "--jwt-role-map",
            "platform-ops=admin,llm-app=worker",
        ],
    )
    .await
}

/// Tokens of this issuer are good here, with the roles that are mapped; this server makes none.
async fn believes(server: &Server, issuer: &Issuer) {
    let ops = issuer.token(&["everybody", "platform-ops"], &[]);
    let app = issuer.token(&["llm-app"], &[]);
    let channel = channel(server.address()).await;
    let mut admin = AdminServiceClient::new(channel.clone());
    let mut config = ConfigServiceClient::new(channel);
    let verified = refusal(admin.verify_log(with(&ops, VerifyLogRequest::default())).await);
    assert_eq!(verified.0, Code::Ok, "{:?}: {verified:?}", issuer.algorithm);
    assert_eq!(refusal(config.list_resources(with(&app, ListResourcesRequest::default())).await).0, Code::Ok);
    let create = CreateTokenRequest {
        role: Role::Worker.into(),
        subject: "w".to_owned(),
        ttl: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..CreateTokenRequest::default()
    };
    let made = refusal(admin.create_token(with(&ops, create.clone())).await);
    assert_eq!(made, (Code::FailedPrecondition, "NO_SIGNING_KEY".to_owned()));
    let refused = [
        (issuer.token(&["llm-app"], &[]), Code::PermissionDenied, "ROLE_DENIED"),
        (issuer.token(&["everybody"], &[]), Code::PermissionDenied, "ROLE_UNKNOWN"),
        (issuer.token(&["admin"], &[]), Code::PermissionDenied, "ROLE_UNKNOWN"),
        (
            issuer.token(&["platform-ops"], &[("iss", "https://other.example")]),
            Code::Unauthenticated,
            "TOKEN_INVALID",
        ),
        (issuer.token(&["platform-ops"], &[("aud", "signalbox")]), Code::Unauthenticated, "TOKEN_INVALID"),
    ];
    for (token, code, reason) in refused {
        let answer = refusal(admin.create_token(with(&token, create.clone())).await);
        assert_eq!(answer, (code, reason.to_owned()), "{:?}", issuer.algorithm);
    }
}

#[tokio::test]
async fn tokens_of_an_identity_provider_are_good_with_the_role_that_is_mapped() {
    let issuers = [
        Issuer::new(Algorithm::RS256, &rcgen::PKCS_RSA_SHA256),
        Issuer::new(Algorithm::ES256, &rcgen::PKCS_ECDSA_P256_SHA256),
        Issuer::new(Algorithm::EdDSA, &rcgen::PKCS_ED25519),
    ];
    for issuer in &issuers {
        let server = trusting("--jwt-public-key-file", &issuer.public_pem).await;
        believes(&server, issuer).await;
        for own in ["admin.token", "jwt.key"] {
            assert!(!server.home().path("data").join(own).exists(), "{own} is good for nothing here");
        }
    }
    let set = json!({ "keys": issuers.each_ref().map(Issuer::jwk) }).to_string();
    let server = trusting("--jwt-jwks-file", &set).await;
    for issuer in &issuers {
        believes(&server, issuer).await;
    }
    let stranger = Issuer::new(Algorithm::ES256, &rcgen::PKCS_ECDSA_P256_SHA256);
    let mut admin = AdminServiceClient::new(channel(server.address()).await);
    let forged = stranger.token(&["platform-ops"], &[]);
    let answer = refusal(admin.verify_log(with(&forged, VerifyLogRequest::default())).await);
    assert_eq!(answer, (Code::Unauthenticated, "TOKEN_INVALID".to_owned()));
}
