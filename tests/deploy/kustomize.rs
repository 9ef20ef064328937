//! What `kubectl kustomize` would make of a folder, as far as the folders here go: resources, settings made into a
//! ConfigMap, strategic merges of a few lists, images. Anything else is refused, so that nothing is passed over.
//!
//! The hash at the end of a ConfigMap's name is left out.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{documents, variables};

/// By which field the elements of a list are told apart when two are merged.
const MERGE_KEYS: [(&str, &str); 6] = [
    ("containers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("volumeMounts", "mountPath"),
    ("ports", "containerPort"),
    ("topologySpreadConstraints", "topologyKey"),
];

/// The resources that applying a folder makes.
pub fn build(folder: &Path) -> Vec<Value> {
    let file = folder.join("kustomization.yaml");
    let [Value::Object(plan)] = &documents(&file)[..] else { panic!("{} is not one map", file.display()) };
    let list = |name: &str| plan.get(name).and_then(Value::as_array).into_iter().flatten();
    let mut made: Vec<Value> = Vec::new();
    for resource in list("resources") {
        let path = folder.join(resource.as_str().expect("a path"));
        made.extend(if path.is_dir() { build(&path) } else { documents(&path) });
    }
    list("configMapGenerator").for_each(|each| generate(&mut made, folder, each));
    for patch in list("patches") {
        let [patch] = &documents(&folder.join(text(patch, "path")))[..] else { panic!("one patch a file") };
        let whole = made.iter_mut().find(|each| id(each) == id(patch)).expect("what is patched");
        merge(whole, patch, None);
    }
    for name in plan.keys() {
        match name.as_str() {
            "apiVersion" | "kind" | "resources" | "configMapGenerator" | "patches" => {}
            "namespace" => made.iter_mut().for_each(|each| {
                if each["kind"] != "Namespace" {
                    each["metadata"]["namespace"] = plan[name].clone();
                }
            }),
            "images" => list(name).for_each(|image| made.iter_mut().for_each(|each| set_image(each, image))),
            other => panic!("{}: `{other}` is not read by this test", file.display()),
        }
    }
    made
}

/// The one resource of a kind and a name.
pub fn find<'a>(made: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = made.iter().find(|each| id(each) == (kind, name));
    found.unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

/// Kind and name.
pub fn id(resource: &Value) -> (&str, &str) {
    (text(resource, "kind"), text(&resource["metadata"], "name"))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} is missing in {value}"))
}

fn generate(made: &mut Vec<Value>, folder: &Path, plan: &Value) {
    let mut data = Map::new();
    for name in plan["files"].as_array().into_iter().flatten().map(|file| file.as_str().expect("a path")) {
        let content = std::fs::read_to_string(folder.join(name)).expect("a file");
        data.insert(name.to_owned(), Value::String(content));
    }
    for file in plan["envs"].as_array().into_iter().flatten() {
        let file = folder.join(file.as_str().expect("a path"));
        let content = std::fs::read_to_string(&file).expect("a file of variables");
        data.extend(variables(&content).into_iter().map(|(name, value)| (name, Value::String(value))));
    }
    let mut map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": plan["name"]}, "data": data});
    if let Some(labels) = plan["options"].get("labels") {
        map["metadata"]["labels"] = labels.clone();
    }
    match plan["behavior"].as_str() {
        None => made.push(map),
        Some("merge") => {
            let whole = made.iter_mut().find(|each| id(each) == id(&map)).expect("what is merged with");
            merge(whole, &map, None);
        }
        Some(other) => panic!("behavior {other} is not read by this test"),
    }
}

/// A strategic merge; `list` is the field that holds what is merged.
fn merge(into: &mut Value, patch: &Value, list: Option<&str>) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (name, value) in patch {
                match value {
                    Value::Null => drop(into.remove(name)),
                    _ => merge(into.entry(name.clone()).or_insert(Value::Null), value, Some(name)),
                }
            }
        }
        (Value::Array(into), Value::Array(patch)) => {
            let key = MERGE_KEYS.iter().find(|(name, _)| Some(*name) == list).map(|(_, key)| *key);
            let key = key.unwrap_or_else(|| panic!("how two lists of {list:?} are merged is not known here"));
            for value in patch {
                match into.iter_mut().find(|other| other[key] == value[key]) {
                    Some(other) => merge(other, value, None),
                    None => into.push(value.clone()),
                }
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

fn set_image(resource: &mut Value, image: &Value) {
    let containers = resource.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten().filter(|each| each["image"] == image["name"]) {
        let name = text(image, "newName");
        container["image"] = match image["digest"].as_str() {
            Some(digest) => format!("{name}@{digest}").into(),
            None => format!("{name}:{}", text(image, "newTag")).into(),
        };
    }
}

#[test]
fn a_patch_changes_what_it_names_and_nothing_else() {
    let mut whole =
        json!({"spec": {"containers": [{"name": "a", "image": "x", "env": [{"name": "E", "value": "1"}]}]}});
    let patch = json!({"spec": {"replicas": 3, "containers": [
        {"name": "b"}, {"name": "a", "image": null, "env": [{"name": "F", "value": "2"}, {"name": "E", "value": "3"}]}
    ]}});
    merge(&mut whole, &patch, None);
    let wanted = json!({"spec": {"replicas": 3, "containers": [
        {"name": "a", "env": [{"name": "E", "value": "3"}, {"name": "F", "value": "2"}]}, {"name": "b"}
    ]}});
    assert_eq!(whole, wanted);
}
