//! The API over HTTP with JSON: the same as over gRPC, in the forms of HTTP.

use serde_json::{Value, json};
use signalbox::proto::v1::Role;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    calls::token,
    harness::{
        Server,
        http::{Answer, ask, get, send},
        soon,
    },
};

const ON: [&str; 2] = ["--http-listen", "127.0.0.1:0"];

/// A server and its administrator, over HTTP.
struct Site {
    server: Server,
    token: String,
}

impl Site {
    async fn start() -> Self {
        let server = Server::start_with(&ON).await;
        let token = server.admin_token();
        Self { server, token }
    }

    fn address(&self) -> &str {
        self.server.http_address()
    }

    async fn get(&self, path: &str) -> Answer {
        get(self.address(), path, &self.token).await
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        send(self.address(), method, path, &self.token, body).await
    }

    async fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        ask(self.address(), method, path, &format!("Authorization: Bearer {}\r\n{headers}", self.token)).await
    }

    /// Creates a resource, and answers it.
    async fn create(&self, path: &str, resource: Value) -> Value {
        let answer = self.send("POST", path, &resource).await;
        assert_eq!(answer.code, 200, "{answer:?}");
        answer.json()["resource"].clone()
    }
}

fn setting(name: &str, value: i64) -> Value {
    json!({ "name": name, "setting": { "intValue": value.to_string() } })
}

/// The violations of a refusal: fields and reasons.
fn violations(answer: &Answer) -> Vec<(String, String)> {
    let body = answer.json();
    let details = body["details"].as_array().unwrap();
    let bad = details.iter().find(|each| each["@type"] == "type.googleapis.com/google.rpc.BadRequest");
    let listed =
        bad.unwrap_or_else(|| panic!("no violations: {body}"))["fieldViolations"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    listed.iter().map(|each| (text(&each["field"]), text(&each["reason"]))).collect()
}

/// Whoever knows a version is told whether it is still the newest, and the head can be asked for alone.
#[tokio::test]
async fn reads_are_conditional_and_have_heads() {
    let site = Site::start().await;
    let made = site.create("/v1/settings", setting("settings/a", 1)).await;
    let etag = format!("\"{}\"", made["etag"].as_str().unwrap());
    let read = site.get("/v1/settings/a").await;

    let head = site.ask("HEAD", "/v1/settings/a", "").await;
    assert_eq!((head.code, head.body.as_str(), &head.headers["etag"]), (200, "", &etag));
    assert_eq!(head.headers["content-length"], read.body.len().to_string());
    let missing = site.ask("HEAD", "/v1/settings/none", "").await;
    assert_eq!((missing.code, missing.body.as_str()), (404, ""));
    let stream = site.ask("HEAD", "/v1:watch", "").await;
    assert_eq!((stream.code, stream.headers["allow"].as_str()), (405, "GET, POST"));
    let anonymous = ask(site.address(), "HEAD", "/v1/settings/a", "").await;
    assert_eq!(anonymous.code, 401);

    for (known, method) in [(etag.clone(), "GET"), (format!("\"x\", W/{etag}"), "GET"), ("*".into(), "HEAD")]
    {
        let same = site.ask(method, "/v1/settings/a", &format!("If-None-Match: {known}\r\n")).await;
        assert_eq!((same.code, same.body.as_str(), &same.headers["etag"]), (304, "", &etag), "{known}");
        assert_eq!(same.headers["cache-control"], "no-store");
    }
    let known = format!("If-None-Match: {etag}\r\n");
    let seen = site.ask("GET", "/v1/settings/a?include_observations=true", &known).await;
    assert_eq!(seen.code, 200, "what was seen is not part of the etag");
    let changed = site.send("PATCH", "/v1/settings/a", &json!({ "setting": { "intValue": "2" } })).await;
    assert_eq!(changed.code, 200, "{changed:?}");
    let newer = site.ask("GET", "/v1/settings/a", &known).await;
    assert_eq!((newer.code, &newer.json()["resource"]["setting"]["intValue"]), (200, &json!("2")));
    let refused = site.ask("GET", "/v1/settings/none", "If-None-Match: *\r\n").await;
    assert_eq!(refused.code, 404);
}

#[tokio::test]
async fn a_resource_lives_its_life_at_its_path() {
    let site = Site::start().await;
    let made = site
        .create(
            "/v1/providers?reason=first",
            json!({ "name": "providers/groq", "labels": { "team": "a" }, "provider": { "type": "PROVIDER_TYPE_GROQ" } }),
        )
        .await;
    assert_eq!((&made["version"], &made["provider"]["enabled"]), (&json!("1"), &json!(true)));
    let read = site.get("/v1/providers/groq").await;
    assert_eq!(read.json()["resource"], made);
    assert_eq!(read.headers["etag"], format!("\"{}\"", made["etag"].as_str().unwrap()));
    assert_eq!(read.headers["cache-control"], "no-store");
    assert!(!read.headers["x-request-id"].is_empty());

    // The mask keeps the key of a map as it is written, and takes names of fields in both spellings.
    let change =
        json!({ "labels": { "x": "y" }, "provider": { "displayName": "G", "baseUrl": "https://no" } });
    let path = "/v1/providers/groq?update_mask=provider.displayName";
    let changed = site.send("PATCH", path, &change).await.json()["resource"].clone();
    assert_eq!(
        (&changed["provider"]["displayName"], &changed["labels"]),
        (&json!("G"), &json!({ "team": "a" }))
    );

    let key = json!({ "name": "providers/groq/apiKeys/prod", "apiKey": { "secret": { "value": "sk-1" } } });
    let key = site.create("/v1/providers/groq/apiKeys", key).await;
    assert_eq!(key["apiKey"]["secret"], json!({ "state": "STATE_PRESENT" }));
    let listed = site.get("/v1/providers").await.json();
    assert_eq!(listed["resources"].as_array().unwrap().len(), 1, "keys are no providers: {listed}");
    let listed = site.get("/v1/providers/groq/apiKeys?page_size=1").await.json();
    assert_eq!(listed["resources"][0]["name"], "providers/groq/apiKeys/prod");
    let listed = site.get("/v1/config?selectors=kind:api_key&selectors=providers/groq").await.json();
    assert_eq!(listed["resources"].as_array().unwrap().len(), 2);
    let none = site.get("/v1/providers?filter=enabled%20%3D%20false%20OR%20type%20%3D%20OPENAI").await.json();
    assert_eq!(none["resources"], Value::Null, "{none}");

    let history = site.get("/v1/providers/groq:history").await.json();
    assert_eq!(
        (&history["entries"][0]["action"], &history["entries"][1]["reason"]),
        (&json!("updated"), &json!("first"))
    );
    let gone = site.ask("DELETE", "/v1/providers/groq", "").await;
    assert_eq!(gone.json()["diffs"].as_array().unwrap().len(), 2, "{gone:?}");
    assert_eq!(site.get("/v1/providers/groq").await.refusal(), (404, "NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn every_other_call_is_a_verb() {
    let site = Site::start().await;
    for id in ["groq", "openai"] {
        let kind = format!("PROVIDER_TYPE_{}", id.to_uppercase());
        site.create(
            "/v1/providers",
            json!({ "name": format!("providers/{id}"), "provider": { "type": kind } }),
        )
        .await;
    }
    let switched =
        site.send("POST", "/v1/routers/default:switch", &json!({ "provider": "providers/groq" })).await;
    assert_eq!(switched.json()["router"]["router"]["primary"], "providers/groq");
    assert_eq!(site.get("/v1/providers:active").await.json()["provider"]["name"], "providers/groq");
    let default = site.get("/v1/providers:default?type=PROVIDER_TYPE_OPENAI").await.json();
    assert_eq!(default["provider"]["name"], "providers/openai");
    let tested = site.send("POST", "/v1/providers/groq:test", &json!({})).await.json();
    assert_eq!(tested["reason"], "PROBE_REASON_NO_KEY", "{tested}");
    let batch = json!({ "operations": [
        { "create": { "resource": setting("settings/a", 1) } },
        { "delete": { "name": "providers/openai" } },
    ] });
    let written = site.send("POST", "/v1/config:batchWrite", &batch).await.json();
    assert_eq!(written["results"].as_array().unwrap().len(), 2, "{written}");
    let back = json!({ "revision": "2", "validateOnly": true });
    let back = site.send("POST", "/v1/providers/openai:rollback", &back).await.json();
    assert_eq!(back["diff"]["type"], "CHANGE_TYPE_CREATED", "{back}");
    let all = json!({ "revision": "2", "selectors": [{ "name": "settings/a" }], "validateOnly": true });
    let all = site.send("POST", "/v1/config:rollbackAll", &all).await.json();
    assert_eq!(all["diffs"][0]["type"], "CHANGE_TYPE_DELETED", "{all}");
    let empty = json!({ "provider": { "requestBuilder": {} } });
    let refused = violations(&site.send("PATCH", "/v1/providers/groq", &empty).await);
    assert_eq!(refused[0].0, "resource.provider.request_builder.version");
    let missing = json!({ "provider": "providers/nosuch" });
    let missing = site.send("POST", "/v1/routers/default:switch", &missing).await;
    assert_eq!(missing.refusal(), (404, "NOT_FOUND".to_owned()));
    let explained = site.send("POST", "/v1/settings:explain", &json!({ "key": "a" })).await.json();
    assert_eq!(explained["setting"]["effective"]["setting"]["intValue"], "1");
    let diff = site.get("/v1/config:diff?from_revision=1").await.json();
    assert!(diff["diffs"].as_array().unwrap().len() >= 2, "{diff}");
    let made =
        json!({ "role": "ROLE_VIEWER", "subject": "v", "grants": [{ "prefix": "tools/" }], "ttl": "60s" });
    let viewer =
        site.send("POST", "/v1/tokens:create", &made).await.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(get(site.address(), "/v1/tools", &viewer).await.code, 200);
    assert_eq!(get(site.address(), "/v1/providers", &viewer).await.refusal().1, "NOT_GRANTED");
    assert_eq!(site.get("/v1/status").await.json()["storeKind"], "sqlite");
}

#[tokio::test]
async fn an_etag_is_the_precondition_of_a_write() {
    let site = Site::start().await;
    let etag =
        site.create("/v1/settings", setting("settings/a", 1)).await["etag"].as_str().unwrap().to_owned();
    let patch = async |if_match: &str| {
        let body = setting("", 2).to_string();
        let length = body.len();
        let json = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
        site.ask("PATCH", "/v1/settings/a", &format!("If-Match: {if_match}\r\n{json}")).await
    };
    let stale = patch("\"1-nothing\"").await;
    assert_eq!(stale.refusal(), (412, "ETAG_MISMATCH".to_owned()));
    assert_eq!(stale.json()["details"][0]["metadata"]["current_etag"], etag);
    for wrong in ["*", "W/\"x\"", &etag, "\"a\", \"b\""] {
        assert_eq!(violations(&patch(wrong).await), [("If-Match".to_owned(), "WRONG_TYPE".to_owned())]);
    }
    assert_eq!(patch(&format!("\"{etag}\"")).await.code, 200);
    let stale = site.ask("DELETE", "/v1/settings/a", &format!("If-Match: \"{etag}\"\r\n")).await;
    assert_eq!(stale.refusal(), (412, "ETAG_MISMATCH".to_owned()));
    // In the body it is a conflict, as over gRPC.
    let mut changed = setting("settings/a", 3);
    changed["etag"] = json!(etag);
    assert_eq!(
        site.send("PATCH", "/v1/settings/a", &changed).await.refusal(),
        (409, "ETAG_MISMATCH".to_owned())
    );
    // A precondition is never passed over.
    let twice = format!("If-Match: \"{etag}\"\r\nIf-Match: \"nonsense\"\r\n");
    let twice = site.ask("DELETE", "/v1/settings/a", &twice).await;
    assert_eq!(violations(&twice), [("If-Match".to_owned(), "REPEATED".to_owned())]);
    let others = "If-None-Match: *\r\nIf-Unmodified-Since: Tue, 01 Jan 2030 00:00:00 GMT\r\n";
    let others = site.ask("DELETE", "/v1/settings/a", others).await;
    let unread = |name: &str| (name.to_owned(), "UNEXPECTED".to_owned());
    assert_eq!(violations(&others), [unread("If-None-Match"), unread("If-Unmodified-Since")]);
    let unread = site.ask("GET", "/v1/settings/a", "If-Match: \"x\"\r\n").await;
    assert_eq!(violations(&unread), [("If-Match".to_owned(), "UNEXPECTED".to_owned())]);
}

#[tokio::test]
async fn a_body_that_is_not_read_as_it_is_meant_is_refused() {
    let site = Site::start().await;
    for headers in [
        "Content-Type: application/json; charset=utf-16\r\nContent-Length: 2\r\n\r\n{}",
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        "Content-Type: application/json\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
    ] {
        let answer = site.ask("POST", "/v1/settings", headers).await;
        assert_eq!(answer.refusal(), (415, "UNSUPPORTED_MEDIA_TYPE".to_owned()), "{headers}");
    }
    // It is not waited for.
    let long = "Content-Type: application/json; charset=UTF-8\r\nContent-Length: 99999999999\r\n\r\n{";
    let answer = site.ask("POST", "/v1/settings", long).await;
    assert_eq!(answer.refusal(), (413, "REQUEST_TOO_LARGE".to_owned()));
}

/// Somebody has exchanged key and value.
#[tokio::test]
async fn regression_a_key_in_the_place_of_a_name_is_not_told() {
    let site = Site::start().await;
    let key = "gsk_live_51HabcdefSECRETkey9";
    let body = site.send("POST", "/v1/settings", &json!({"setting": {key: 1}})).await;
    let query = site.get(&format!("/v1/settings?{key}=1")).await;
    for answer in [body, query] {
        assert_eq!(answer.code, 400);
        assert!(!answer.body.contains("51H"), "{answer:?}");
    }
}

#[tokio::test]
async fn who_may_not_call_is_refused_before_the_request_is_read() {
    let site = Site::start().await;
    let viewer = token(&site.server, Role::Viewer, "v").await;
    for (method, path) in
        [("GET", "/v1/settings?nonsense=1"), ("POST", "/v1/settings"), ("GET", "/v1:watch?x=y")]
    {
        let nobody = ask(site.address(), method, path, "Content-Length: 3\r\n\r\n{{{").await;
        assert_eq!(nobody.refusal(), (401, "TOKEN_MISSING".to_owned()), "{path}");
        assert_eq!(nobody.headers["www-authenticate"], "Bearer");
        let forged = ask(site.address(), method, path, "Authorization: Bearer x.y.z\r\n").await;
        assert_eq!(forged.refusal(), (401, "TOKEN_INVALID".to_owned()), "{path}");
    }
    let denied = send(site.address(), "POST", "/v1/settings", &viewer, &json!("nonsense")).await;
    assert_eq!(denied.refusal(), (403, "ROLE_DENIED".to_owned()));
    // Two tokens are none, and one in the address never was.
    let two = format!("Authorization: Bearer {0}\r\nAuthorization: Bearer {0}\r\n", site.token);
    assert_eq!(ask(site.address(), "GET", "/v1/status", &two).await.refusal().1, "TOKEN_INVALID");
    let address = format!("/v1/status?access_token={}", site.token);
    assert_eq!(get(site.address(), &address, "").await.refusal(), (401, "TOKEN_MISSING".to_owned()));
    // Nobody knows of an RPC by its path.
    let rpc = "/signalbox.v1.AdminService/GetStatus";
    assert_eq!(site.send("POST", rpc, &json!({})).await.refusal(), (404, "PATH_UNKNOWN".to_owned()));
}

/// The rest of the body is still to come, so that nothing can follow it: a client must not try.
#[tokio::test]
async fn regression_a_body_that_is_too_large_ends_the_connection_and_says_so() {
    let site = Site::start().await;
    let mut stream = tokio::net::TcpStream::connect(site.address()).await.unwrap();
    let head = format!(
        "POST /v1/settings HTTP/1.1\r\nHost: signalbox\r\nAuthorization: Bearer {}\r\nContent-Type: \
         application/json\r\nContent-Length: 3000000\r\n\r\n",
        site.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b' '; (1 << 20) + 1]).await.unwrap();
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn tricks_with_paths_reach_nothing() {
    let site = Site::start().await;
    site.create("/v1/settings", setting("settings/a", 1)).await;
    for path in [
        "//v1/settings/a",
        "/v1//settings/a",
        "/v1/settings/a/",
        "/v1/settings%2Fa",
        "/v1/settings/../settings/a",
        "/V1/settings/a",
        "/v1/Settings/a",
        "/v1/%73ettings/a",
        "/v1/config%3Ahistory",
        "/v1;x/settings/a",
    ] {
        assert_eq!(site.get(path).await.refusal(), (404, "PATH_UNKNOWN".to_owned()), "{path}");
    }
    // A segment that is no name is a wrong name, wherever it leads.
    for path in ["/v1/settings/%2E%2E", "/v1/settings/a%00", "/v1/settings/a%0D%0AX:y", "/v1/settings/.."] {
        assert_eq!(violations(&site.get(path).await)[0].0, "name", "{path}");
    }
    assert_eq!(site.get("/v1/settings/%61").await.json()["resource"]["name"], "settings/a");
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_and_nothing_is_done() {
    let site = Site::start().await;
    let wrong = json!({
        "nmae": "settings/a", "name": "tools/a",
        "setting": { "intValue": "many", "stringValue": "x", "scope": {} },
    });
    let refused =
        site.send("POST", "/v1/settings?validate_only=perhaps&reson=x&reason=a&reason=b", &wrong).await;
    let mut found = violations(&refused);
    found.sort();
    let expected = [
        ("reason", "CONFLICT"),
        ("reson", "UNKNOWN_PARAMETER"),
        ("resource.name", "CONFLICT"),
        ("resource.nmae", "UNKNOWN_FIELD"),
        ("resource.setting.int_value", "WRONG_TYPE"),
        ("resource.setting.scope", "UNKNOWN_FIELD"),
        ("validate_only", "WRONG_TYPE"),
    ];
    assert_eq!(found, expected.map(|(field, reason)| (field.to_owned(), reason.to_owned())));
    assert_eq!(refused.code, 400);
    for (method, path, body, field) in [
        ("PATCH", "/v1/settings/a", json!({ "name": "settings/b" }), "resource.name"),
        ("POST", "/v1/providers/groq:test?model=x", json!({}), "model"),
        ("POST", "/v1/providers/groq:test", json!({ "name": "providers/b" }), "name"),
        ("POST", "/v1/providers", json!({ "name": "providers/a/apiKeys/b", "apiKey": {} }), "resource.name"),
        ("GET", "/v1/settings/a?name=settings/b", Value::Null, "name"),
        ("GET", "/v1/config?selectors=nothing/*", Value::Null, "selectors[0]"),
        ("GET", "/v1/config?page_size=1e99", Value::Null, "page_size"),
        ("GET", "/v1/settings?selectors=*", Value::Null, "selectors"),
        ("GET", "/v1/providers/a/apiKeys:active?type=PROVIDER_TYPE_GROQ", Value::Null, "provider"),
    ] {
        let answer = match body {
            Value::Null => site.get(path).await,
            body => site.send(method, path, &body).await,
        };
        let found = violations(&answer);
        assert!(found.iter().any(|(named, _)| named == field), "{method} {path}: {found:?}");
    }
    assert_eq!(site.get("/v1/config").await.json()["resources"], Value::Null);
}

#[tokio::test]
async fn a_body_has_its_form_and_its_bounds() {
    let site = Site::start().await;
    let post = async |headers: &str| site.ask("POST", "/v1/settings", headers).await;
    let form = "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(post(form).await.refusal(), (415, "UNSUPPORTED_MEDIA_TYPE".to_owned()));
    let form = "Content-Type: application/json; charset=utf-8\r\nContent-Length: 2\r\n\r\n[]";
    assert_eq!(violations(&post(form).await), [("resource".to_owned(), "WRONG_TYPE".to_owned())]);
    let form = "Content-Type: application/json\r\nContent-Length: 5\r\n\r\n{\"a\":";
    assert_eq!(violations(&post(form).await), [("body".to_owned(), "UNDECODABLE".to_owned())]);
    let refused = post("Accept: text/html\r\nContent-Length: 0\r\n").await;
    assert_eq!(refused.refusal(), (406, "NOT_ACCEPTABLE".to_owned()));
    let accepted = site.ask("GET", "/v1/status", "Accept: text/html, application/*;q=0.5\r\n").await;
    assert_eq!(accepted.code, 200);
    let giant = json!({ "name": "settings/a", "setting": { "stringValue": "x".repeat(2 << 20) } });
    assert_eq!(
        site.send("POST", "/v1/settings", &giant).await.refusal(),
        (413, "REQUEST_TOO_LARGE".to_owned())
    );
    let twice = "Content-Type: application/json\r\nContent-Length: 25\r\n\r\n{\"labels\":1,\"labels\":2}  ";
    let twice = post(twice).await;
    assert_eq!(violations(&twice), [("body".to_owned(), "UNDECODABLE".to_owned())]);
    assert!(twice.body.contains("twice") && !twice.body.contains("not JSON"), "{twice:?}");
    let on_a_read =
        site.ask("GET", "/v1/status", "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}").await;
    assert_eq!(violations(&on_a_read), [("body".to_owned(), "UNEXPECTED".to_owned())]);
    let wrong = site.ask("PUT", "/v1/settings", "").await;
    assert_eq!(wrong.refusal(), (405, "METHOD_NOT_ALLOWED".to_owned()));
    assert_eq!(wrong.headers["allow"], "GET, HEAD, POST");
}

/// Its etag says that it is the same. Maps came in another order each time.
#[tokio::test]
async fn regression_the_same_resource_is_the_same_text() {
    let site = Site::start().await;
    let labels: serde_json::Map<String, Value> = (0..16).map(|i| (format!("label{i}"), json!("x"))).collect();
    let resource = json!({ "name": "settings/a", "labels": labels, "setting": { "intValue": "1" } });
    site.create("/v1/settings", resource).await;
    let mut texts = Vec::new();
    for _ in 0..4 {
        let body = site.get("/v1/settings/a").await.body;
        let (_, resource) = body.split_once("\"resource\":").unwrap();
        texts.push(resource.split_once(",\"revision\":").unwrap().0.to_owned());
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
}

/// What is counted, and refused, is the RPC, whichever way it came.
#[tokio::test]
async fn a_call_counts_as_the_rpc_that_it_is() {
    let site = Site::start().await;
    assert_eq!(site.get("/v1/settings/none").await.code, 404);
    site.get("/v1/settings/none?x=y").await;
    let page = site.get("/metrics").await.body;
    let line = |code: &str| {
        format!(
            "signalbox_rpcs_total{{method=\"signalbox.v1.ConfigService/GetResource\",code=\"{code}\"}} 1\n"
        )
    };
    for code in ["NOT_FOUND", "INVALID_ARGUMENT"] {
        assert!(page.contains(&line(code)), "{page}");
    }
}

#[tokio::test]
async fn secrets_are_shown_to_who_may_read_them_only() {
    let site = Site::start().await;
    let secret = json!({ "name": "settings/token", "setting": { "secretValue": { "value": "hunter2" } } });
    site.create("/v1/settings", secret).await;
    let worker = json!({ "role": "ROLE_WORKER", "subject": "w", "grants": [{}], "includeSecrets": true, "ttl": "60s" });
    let worker =
        site.send("POST", "/v1/tokens:create", &worker).await.json()["token"].as_str().unwrap().to_owned();
    let path = "/v1/settings/token?include_secrets=true";
    let read = get(site.address(), path, &worker).await;
    assert_eq!(read.json()["resource"]["setting"]["secretValue"]["value"], "hunter2");
    assert_eq!(site.get(path).await.refusal(), (403, "SECRETS_DENIED".to_owned()));
    assert!(!site.get("/v1/config").await.body.contains("hunter2"));
}

#[tokio::test]
async fn the_description_is_there_for_everybody() {
    let site = Site::start().await;
    let described = get(site.address(), "/openapi.json", "").await.json();
    assert_eq!(described["openapi"], "3.1.0");
    let operation = &described["paths"]["/v1/providers/{provider}/apiKeys/{apiKey}"]["get"];
    assert!(operation["description"].as_str().unwrap().contains("Roles: admin, worker, viewer"));
    assert!(described["paths"]["/v1:watch"]["get"].is_object());
}

#[tokio::test]
async fn pages_of_other_origins_call_only_where_the_settings_say_so() {
    let preflight = "Origin: https://console.example.com\r\nAccess-Control-Request-Method: PATCH\r\n\
                     Access-Control-Request-Headers: authorization\r\n";
    let site = Site::start().await;
    let off = ask(site.address(), "OPTIONS", "/v1/settings", preflight).await;
    assert!(off.code == 405 && !off.headers.contains_key("access-control-allow-origin"), "{off:?}");
    let flags = [&ON[..], &["--cors-allowed-origins", "https://console.example.com"]].concat();
    let server = Server::start_with(&flags).await;
    for address in [server.http_address(), server.address()] {
        let on = ask(address, "OPTIONS", "/v1/settings", preflight).await;
        assert_eq!(on.code, 200, "{on:?}");
        assert_eq!(on.headers["access-control-allow-origin"], "https://console.example.com");
        assert!(on.headers["access-control-allow-methods"].contains("PATCH"));
        assert!(!on.headers.contains_key("access-control-allow-credentials"));
        let other = ask(address, "OPTIONS", "/v1/settings", &preflight.replace("console", "evil")).await;
        assert!(!other.headers.contains_key("access-control-allow-origin"), "{other:?}");
    }
    let refused = crate::harness::Home::new().refused_with(&["--cors-allowed-origins", "*"]).await;
    assert!(refused.message.contains("`*` is no origin"), "{}", refused.message);
}
