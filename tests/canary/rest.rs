//! The way in over HTTP with JSON: every case of every method once more, in the form that its binding gives it.

use prost_reflect::{DynamicMessage, MethodDescriptor};
use serde_json::{Map, Value};
use signalbox::proto::{DESCRIPTOR_POOL, v1::RestBinding};

use crate::{
    cases,
    harness::{
        Server,
        events::Stream,
        http::{ask, get, send},
    },
    trail::Trail,
};

/// A request of HTTP.
struct Request {
    method: String,
    path: String,
    body: Option<Value>,
}

/// Sends every case as an administrator does, and as nobody; what is answered must not hold the canary.
pub async fn every_case(server: &Server, trail: &Trail) {
    let (address, admin) = (server.http_address(), server.admin_token());
    let (mut sent, mut done) = (0, 0);
    for rpc in DESCRIPTOR_POOL.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        if rpc.is_client_streaming() {
            continue;
        }
        for (number, case) in cases::of(rpc.full_name()).into_iter().enumerate() {
            let what = format!("{}, {}, over HTTP", rpc.full_name(), case.what);
            let body = (case.body)(&trail.canary(&what), 100_000 + number);
            let message = DynamicMessage::decode(rpc.input(), body.as_slice()).expect("a message");
            let Some(request) = translate(&rpc, &message) else { continue };
            sent += 1;
            for token in [admin.as_str(), "", "nonsense"] {
                let (code, told) = ask_for(address, &request, token, rpc.is_server_streaming()).await;
                done += usize::from(code == 200);
                let tells_a_token = rpc.name() == "CreateToken" && code == 200;
                let shows_once = code == 200 && told.contains("oneTimeSecret");
                if !tells_a_token && !shows_once {
                    trail.saw(format!("the answer to {what}"), told.as_bytes());
                }
            }
        }
    }
    assert!(sent > 100 && done > 30, "{sent} sent, {done} done");
    let described = get(address, "/openapi.json", "").await;
    trail.saw("the description", described.body.as_bytes());
    crooked(address, &admin, trail).await;
}

/// Secrets where no JSON, no field and no parameter of ours is.
async fn crooked(address: &str, admin: &str, trail: &Trail) {
    let bearer = format!("Authorization: Bearer {admin}\r\n");
    for (what, body) in [
        ("a broken body", "{\"name\": \"{}\""),
        ("a name of a field", "{\"{}\": 1}"),
        ("a value of another type", "{\"setting\": {\"intValue\": \"{}\", \"secretValue\": \"{}\"}}"),
        ("a time", "{\"createTime\": \"{}\"}"),
        ("a word", "{\"provider\": {\"type\": \"{}\"}}"),
        ("a text instead of all", "\"{}\""),
    ] {
        let body = body.replace("{}", &trail.canary(what));
        let length = body.len();
        let json =
            format!("{bearer}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
        let answer = ask(address, "POST", "/v1/settings", &json).await;
        assert_eq!(answer.code, 400, "{what}");
        trail.saw(format!("the answer to {what}"), answer.body.as_bytes());
    }
    for (what, header) in [
        ("a precondition", "If-Match: {}"),
        ("a type of a body", "Content-Type: {}"),
        ("a form of an answer", "Accept: {}"),
        ("an id of a request", "X-Request-Id: {}"),
        ("an id of an event", "Last-Event-ID: {}"),
        ("a method", "X-HTTP-Method-Override: {}"),
    ] {
        let header = header.replace("{}", &trail.canary(what));
        let answer = ask(address, "GET", "/v1/settings/pass", &format!("{bearer}{header}\r\n")).await;
        trail.saw(format!("the answer to {what}"), format!("{answer:?}").as_bytes());
    }
}

async fn ask_for(address: &str, request: &Request, token: &str, streams: bool) -> (u16, String) {
    if streams && request.method == "GET" {
        let mut stream = Stream::get(address, &request.path, token, &[]).await;
        let code = stream.head().status().as_u16();
        let mut told = String::new();
        if code != 200 {
            return (code, String::from_utf8_lossy(&stream.rest().await).into_owned());
        }
        while let Some(event) = stream.event().await {
            told += &format!("{event:?}");
            if ["synced", "status"].contains(&event.name.as_str()) {
                break;
            }
        }
        return (code, told);
    }
    let answer = match &request.body {
        Some(body) => send(address, &request.method, &request.path, token, body).await,
        None => {
            ask(address, &request.method, &request.path, &format!("Authorization: Bearer {token}\r\n")).await
        }
    };
    (answer.code, format!("{answer:?}"))
}

/// The request that a message is, by the first binding of its method; `None` where its name can't stand in a path.
fn translate(rpc: &MethodDescriptor, message: &DynamicMessage) -> Option<Request> {
    let option = DESCRIPTOR_POOL.get_extension_by_name("signalbox.v1.rest")?;
    let options = rpc.options();
    let declared = options.get_extension(&option);
    let binding: RestBinding = declared.as_list()?.first()?.as_message()?.transcode_to().ok()?;
    let (method, path) = binding.call.split_once(' ')?;
    let json = serde_json::to_value(message).ok()?;
    let path = match path.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?))) {
        None => path.to_owned(),
        Some((before, (variable, after))) => {
            let (field, pattern) = variable.split_once('=').unwrap_or((variable, ""));
            let name = field.split('.').try_fold(&json, |json, step| json.get(camel(step)));
            let name = match pattern {
                "collection" => name.and_then(Value::as_str).and_then(|name| Some(name.rsplit_once('/')?.0)),
                _ => name.and_then(Value::as_str),
            };
            format!("{before}{}{after}", name.unwrap_or("tools"))
        }
    };
    if path.contains(|letter: char| !letter.is_ascii_graphic() || "\"<>\\^`{|}~?".contains(letter)) {
        return None;
    }
    let body = match binding.body.as_str() {
        "" => None,
        "*" => Some(json.clone()),
        field => Some(json.get(camel(field)).cloned().unwrap_or(Value::Object(Map::new()))),
    };
    let query: Vec<String> = match (&body, json) {
        (None, Value::Object(fields)) => {
            fields.iter().filter_map(|(key, value)| parameter(key, value)).collect()
        }
        _ => Vec::new(),
    };
    let mark = if query.is_empty() { "" } else { "?" };
    let path = format!("{path}{mark}{}", query.join("&"));
    Some(Request { method: method.to_owned(), path, body })
}

/// A field as a parameter of the query, where one text can hold it.
fn parameter(key: &str, value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        _ => return None,
    };
    let text: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    (key != "name").then(|| format!("{key}={text}"))
}

fn camel(snake: &str) -> String {
    let mut words = snake.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    first + &words.map(|word| word[..1].to_uppercase() + &word[1..]).collect::<String>()
}
