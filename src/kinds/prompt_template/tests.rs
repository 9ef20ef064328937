//! For every field of a prompt template what is accepted, and what is refused under which path.

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::{
    kinds::{
        contracts,
        tests::{plan, wrong},
    },
    proto::v1::{
        ChatParameters, GenerationParameters, ModelCapability, ModelDeprecation, ReasoningEffort,
        ReasoningParameters, ToolChoice, ToolChoiceMode,
    },
};

const NAME: &str = "promptTemplates/summary";

fn spec(change: impl FnOnce(&mut PromptTemplateSpec)) -> Spec {
    let mut template = PromptTemplateSpec { template: "Say it.".into(), ..Default::default() };
    change(&mut template);
    Spec::PromptTemplate(template)
}

#[track_caller]
fn good(change: impl FnOnce(&mut PromptTemplateSpec)) {
    assert_eq!(plan(NAME, spec(change), None).1, []);
}

#[track_caller]
fn bad(path: &str, change: impl FnOnce(&mut PromptTemplateSpec)) {
    assert_eq!(wrong(NAME, spec(change)), [format!("prompt_template.{path}")]);
}

fn variable(change: impl FnOnce(&mut TemplateVariable)) -> impl FnOnce(&mut PromptTemplateSpec) {
    let mut variable = TemplateVariable { name: "text".into(), ..Default::default() };
    change(&mut variable);
    move |spec| spec.variables.push(variable)
}

fn with_default(variable_type: VariableType, value: &str) -> impl FnOnce(&mut PromptTemplateSpec) {
    variable(move |variable| {
        variable.r#type = variable_type.into();
        variable.default_value = Some(value.to_owned());
    })
}

fn message(role: i32, content: &str) -> impl FnOnce(&mut PromptTemplateSpec) {
    let message = PromptMessage { role, content: content.to_owned() };
    move |spec| spec.messages.push(message)
}

fn generation(change: impl FnOnce(&mut GenerationParameters)) -> impl FnOnce(&mut PromptTemplateSpec) {
    move |spec| change(spec.generation.get_or_insert_default())
}

fn chat(change: impl FnOnce(&mut ChatParameters)) -> impl FnOnce(&mut PromptTemplateSpec) {
    move |spec| change(spec.chat.get_or_insert_default())
}

fn reasoning(change: impl FnOnce(&mut ReasoningParameters)) -> impl FnOnce(&mut PromptTemplateSpec) {
    move |spec| change(spec.reasoning.get_or_insert_default())
}

fn choice(mode: i32, tool: &str, tools: &[&str]) -> impl FnOnce(&mut PromptTemplateSpec) {
    let choice = Some(ToolChoice { mode, tool: tool.to_owned() });
    let tools = tools.iter().map(|tool| (*tool).to_owned()).collect();
    move |spec| {
        spec.chat.get_or_insert_default().tool_choice = choice;
        spec.tools = tools;
    }
}

#[test]
fn defaults_are_filled_in() {
    let given = spec(|spec| {
        variable(|_| ())(spec);
        with_default(VariableType::Integer, "5")(spec);
        spec.variables[1].name = "count".into();
    });
    let (Spec::PromptTemplate(filled), violations) = plan(NAME, given, None) else { panic!() };
    assert_eq!(violations, []);
    assert_eq!(filled.chat.unwrap().parallel_tool_calls, Some(true));
    let [text, count] = &filled.variables[..] else { panic!() };
    assert_eq!((text.r#type(), text.required), (VariableType::String, Some(true)));
    assert_eq!((count.r#type(), count.required), (VariableType::Integer, Some(false)));

    let given = spec(chat(|chat| chat.parallel_tool_calls = Some(false)));
    let (Spec::PromptTemplate(filled), _) = plan(NAME, given, None) else { panic!() };
    assert_eq!(filled.chat.unwrap().parallel_tool_calls, Some(false));
}

#[test]
fn texts_and_messages() {
    good(|spec| spec.display_name = "Summary".into());
    bad("display_name", |spec| spec.display_name = "x".repeat(201));
    good(|spec| spec.description = "one\ntwo".into());
    bad("description", |spec| spec.description = "a\0".into());
    good(|spec| spec.template = "x".repeat(65_536));
    bad("template", |spec| spec.template = "x".repeat(65_537));
    bad("template", |spec| spec.template = String::new());
    bad("template", |spec| spec.template = "a\u{202E}b".into());
    good(|spec| {
        spec.template.clear();
        message(MessageRole::User.into(), "Hello")(spec);
    });
    bad("messages[0].role", message(0, "Hello"));
    bad("messages[0].role", message(9, "Hello"));
    bad("messages[0].content", message(1, ""));
    bad("messages[0].content", message(1, "{{"));
    bad("messages[0].content", message(1, &"x".repeat(65_537)));
    bad("messages", |spec| (0..65).for_each(|_| message(2, "Hello")(spec)));
    bad("messages[0].role", |spec| {
        message(MessageRole::System.into(), "Be kind.")(spec);
        chat(|chat| chat.system_prompt = "Be brief.".into())(spec);
    });
}

#[test]
fn variables_are_declared_once_and_typed() {
    good(variable(|_| ()));
    for name in ["", "1a", "a b", "a-b", "ä", &"x".repeat(65)] {
        bad("variables[0].name", variable(|variable| variable.name = name.to_owned()));
    }
    bad("variables[1].name", |spec| {
        variable(|_| ())(spec);
        variable(|_| ())(spec);
    });
    bad("variables[0].type", variable(|variable| variable.r#type = 9));
    bad("variables[0].description", variable(|variable| variable.description = "a\0".into()));
    good(variable(|variable| variable.description = "What to say.".into()));
    good(variable(|variable| variable.required = Some(false)));
    bad("variables[0].required", |spec| {
        with_default(VariableType::String, "x")(spec);
        spec.variables[0].required = Some(true);
    });
    bad("variables", |spec| {
        (0..101).for_each(|number| variable(|variable| variable.name = format!("v{number}"))(spec));
    });
    for (variable_type, right, false_value) in [
        (VariableType::String, "any\n{{text}}", "a\0"),
        (VariableType::Integer, "-5", "5.0"),
        (VariableType::Number, "1e3", "NaN"),
        (VariableType::Boolean, "false", "no"),
        (VariableType::Json, "{\"a\": [1]}", "{\"a\": 1, \"a\": 2}"),
    ] {
        good(with_default(variable_type, right));
        bad("variables[0].default_value", with_default(variable_type, false_value));
    }
    bad("variables[0].default_value", with_default(VariableType::String, &"x".repeat(4097)));
}

#[test]
fn what_texts_use_is_declared() {
    let using = |text: &str| {
        let text = text.to_owned();
        move |spec: &mut PromptTemplateSpec| {
            spec.template = text;
            variable(|_| ())(spec);
        }
    };
    good(using("{{text}} {{ text }} {text} {\"a\": {\"b\": {{text}}}} {{\"{{\"}}"));
    for text in ["{{other}}", "{{text", "{{te xt}}", "{{{text}}}"] {
        bad("template", using(text));
    }
    bad("chat.system_prompt", chat(|chat| chat.system_prompt = "{{other}}".into()));
    bad("messages[0].content", message(2, "{{other}}"));
    let (_, violations) = plan(NAME, spec(using("{{a}}{{b}}{{a}}{{gsk_secret0123456789}}")), None);
    assert_eq!(violations.len(), 3, "each variable is told once");
    assert!(violations[1].description.contains("uses `{{b}}` at character 6"));
    assert!(violations.iter().all(|violation| !violation.description.contains("secret0")), "it is a key");

    let stored = spec(|spec| {
        variable(|_| ())(spec);
        message(2, "{{used}}")(spec);
        variable(|variable| variable.name = "used".into())(spec);
    });
    assert_eq!(
        PromptTemplate.warnings(None, &stored),
        ["`prompt_template.variables[0]` is declared, but no text uses it"]
    );
}

#[test]
fn generation_parameters() {
    good(generation(|given| given.temperature = Some(2.0)));
    bad("generation.temperature", generation(|given| given.temperature = Some(2.01)));
    bad("generation.temperature", generation(|given| given.temperature = Some(f64::NAN)));
    good(generation(|given| given.top_p = Some(0.0)));
    bad("generation.top_p", generation(|given| given.top_p = Some(1.1)));
    good(generation(|given| given.top_k = Some(1)));
    bad("generation.top_k", generation(|given| given.top_k = Some(0)));
    good(generation(|given| given.max_tokens = Some(10_000_000)));
    bad("generation.max_tokens", generation(|given| given.max_tokens = Some(0)));
    good(generation(|given| given.frequency_penalty = Some(-2.0)));
    bad("generation.frequency_penalty", generation(|given| given.frequency_penalty = Some(-2.1)));
    good(generation(|given| given.presence_penalty = Some(2.0)));
    bad("generation.presence_penalty", generation(|given| given.presence_penalty = Some(f64::INFINITY)));
    let stops = |stops: &[&str]| {
        let stops = stops.iter().map(|stop| (*stop).to_owned()).collect();
        generation(move |given| given.stop_sequences = stops)
    };
    good(stops(&["\n\n", "a", "b", "c"]));
    bad("generation.stop_sequences", stops(&["a", "b", "c", "d", "e"]));
    bad("generation.stop_sequences[0]", stops(&[""]));
    bad("generation.stop_sequences[1]", stops(&["a", "a"]));
    bad("generation.stop_sequences[0]", stops(&[&"x".repeat(257)]));
    good(generation(|given| given.seed = Some(i64::MIN)));
}

#[test]
fn chat_parameters() {
    good(chat(|chat| (chat.system_prompt, chat.stream) = ("Be brief.".into(), Some(true))));
    bad("chat.system_prompt", chat(|chat| chat.system_prompt = "x".repeat(65_537)));
    good(choice(ToolChoiceMode::Auto.into(), "", &[]));
    good(choice(ToolChoiceMode::Required.into(), "", &["tools/a"]));
    good(choice(ToolChoiceMode::Tool.into(), "tools/a", &["tools/b", "tools/a"]));
    bad("chat.tool_choice.mode", choice(0, "", &[]));
    bad("chat.tool_choice.mode", choice(9, "", &[]));
    bad("chat.tool_choice.mode", choice(ToolChoiceMode::Required.into(), "", &[]));
    bad("chat.tool_choice.tool", choice(ToolChoiceMode::Auto.into(), "tools/a", &["tools/a"]));
    for tool in ["", "a", "providers/a", "tools/b"] {
        bad("chat.tool_choice.tool", choice(ToolChoiceMode::Tool.into(), tool, &["tools/a"]));
    }
}

#[test]
fn reasoning_parameters() {
    let with = |effort: i32, mode: i32, tokens: Option<u32>| {
        reasoning(move |given| {
            (given.effort, given.thinking_mode, given.thinking_tokens) = (effort, mode, tokens)
        })
    };
    good(with(7, 3, Some(10_000_000)));
    good(with(1, 1, None));
    good(reasoning(|given| given.chain_of_thought = Some(true)));
    bad("reasoning.effort", with(99, 0, None));
    bad("reasoning.thinking_mode", with(0, 99, None));
    bad("reasoning.thinking_mode", with(1, 2, None));
    bad("reasoning.thinking_tokens", with(0, 0, Some(0)));
    bad("reasoning.thinking_tokens", with(0, 1, Some(5)));
    bad("reasoning.thinking_tokens", with(1, 0, Some(5)));
    bad("reasoning.thinking_tokens", |spec| {
        generation(|given| given.max_tokens = Some(1024))(spec);
        with(0, 2, Some(1024))(spec);
    });
}

#[test]
fn what_it_names() {
    good(|spec| spec.provider = "providers/groq".into());
    bad("provider", |spec| spec.provider = "groq".into());
    good(|spec| spec.model = "models/groq/llama".into());
    bad("model", |spec| spec.model = "llama".into());
    good(|spec| spec.tools = vec!["tools/a".into(), "tools/b".into()]);
    bad("tools[1]", |spec| spec.tools = vec!["tools/a".into(), "tools/a".into()]);
    bad("tools[0]", |spec| spec.tools = vec!["a".into()]);
    bad("tools", |spec| spec.tools = (0..129).map(|number| format!("tools/t{number}")).collect());

    let given = spec(|spec| {
        choice(ToolChoiceMode::Tool.into(), "tools/b", &["tools/a", "tools/b"])(spec);
        (spec.provider, spec.model) = ("providers/p".into(), "models/m/n".into());
    });
    let found: Vec<String> = PromptTemplate
        .references(&given)
        .into_iter()
        .map(|reference| format!("{} {}", reference.field.0.replace("prompt_template.", ""), reference.name))
        .collect();
    assert_eq!(
        found,
        [
            "provider providers/p",
            "model models/m/n",
            "tools[0] tools/a",
            "tools[1] tools/b",
            "chat.tool_choice.tool tools/b",
        ]
    );
}

#[test]
fn a_template_is_held_against_its_model() {
    let given = spec(|spec| {
        spec.model = "models/m/n".into();
        reasoning(|given| given.effort = 3)(spec);
    });
    let model = Spec::Model(ModelSpec {
        capabilities: vec![ModelCapability::Chat.into()],
        deprecation: Some(ModelDeprecation {
            deprecated: true,
            replacement: "models/m/new".into(),
            ..Default::default()
        }),
        ..Default::default()
    });
    let name = ResourceName::parse("models/m/n").unwrap();
    let targets = Targets::from([(name, &model)]);
    let found = PromptTemplate.check_targets(&given, &contracts(&targets));
    assert_eq!(found[0].field, "prompt_template.reasoning");
    let warnings = PromptTemplate.warn_of_targets(&given, &targets);
    assert!(warnings[0].contains("models/m/new is to replace it"));
    assert_eq!(PromptTemplate.check_targets(&spec(|_| ()), &Contracts::new()), []);
    assert_eq!(PromptTemplate.warn_of_targets(&spec(|_| ()), &Targets::new()), Vec::<String>::new());
}

#[test]
fn regression_what_the_provider_is_not_sent_is_said() {
    use crate::proto::v1::ProviderSpec;
    let (provider, violations) = plan(
        "providers/groq",
        Spec::Provider(ProviderSpec { r#type: ProviderType::Groq.into(), ..Default::default() }),
        None,
    );
    assert_eq!(violations, []);
    let given = spec(|spec| {
        spec.provider = "providers/groq".into();
        generation(|given| (given.top_k, given.temperature) = (Some(40), Some(0.5)))(spec);
    });
    let name = ResourceName::parse("providers/groq").unwrap();
    let targets = Targets::from([(name, &provider)]);
    let warnings = PromptTemplate.warn_of_targets(&given, &targets);
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(
        warning.contains("`prompt_template.generation.top_k` is not sent by providers/groq"),
        "{warning}"
    );
    assert_eq!(PromptTemplate.check_targets(&given, &contracts(&targets)), []);
}

/// A builder can't say "only without".
#[test]
fn regression_what_is_said_twice_is_warned_of() {
    use crate::proto::v1::ProviderSpec;
    let warned = |provider_type: ProviderType, change: &dyn Fn(&mut ReasoningParameters)| {
        let provider = ProviderSpec { r#type: provider_type.into(), ..Default::default() };
        let (provider, violations) = plan("providers/p", Spec::Provider(provider), None);
        assert_eq!(violations, []);
        let given = spec(|spec| {
            spec.provider = "providers/p".into();
            change(spec.reasoning.get_or_insert_default());
        });
        let name = ResourceName::parse("providers/p").unwrap();
        let found = PromptTemplate.warn_of_targets(&given, &[(name, &provider)].into());
        found.into_iter().filter(|warning| warning.contains("side by side")).collect::<Vec<_>>()
    };
    let both = |given: &mut ReasoningParameters| {
        given.set_effort(ReasoningEffort::Low);
        given.thinking_tokens = Some(800);
    };
    for provider_type in [ProviderType::GoogleAi, ProviderType::Openrouter] {
        let [warning] = &warned(provider_type, &both)[..] else { panic!("{provider_type:?}") };
        assert!(
            warning.contains("reasoning.effort` and `prompt_template.reasoning.thinking_tokens`"),
            "{warning}"
        );
    }
    assert!(warned(ProviderType::Anthropic, &both).is_empty(), "it takes both");
    for (mode, field) in [(ThinkingMode::Adaptive, "effort"), (ThinkingMode::Disabled, "chain_of_thought")] {
        let found = warned(ProviderType::GoogleAi, &|given| {
            given.set_thinking_mode(mode);
            match field {
                "effort" => given.set_effort(ReasoningEffort::Low),
                _ => given.chain_of_thought = Some(true),
            }
        });
        let [warning] = &found[..] else { panic!("{mode:?}: {found:?}") };
        let wanted = format!("reasoning.{field}` and `prompt_template.reasoning.thinking_mode`");
        assert!(warning.contains(&wanted), "{warning}");
    }
    assert!(warned(ProviderType::GoogleAi, &|given| given.thinking_tokens = Some(800)).is_empty());
}

#[test]
fn regression_two_tools_of_one_function_name_are_warned_of() {
    use crate::proto::v1::ToolSpec;
    let tool = |function: &str| Spec::Tool(ToolSpec { function_name: function.into(), ..Default::default() });
    let given = spec(|spec| spec.tools = ["a", "b", "c"].map(|id| format!("tools/{id}")).into());
    let (search, other) = (tool("search"), tool("fetch"));
    let name = |id: &str| ResourceName::parse(&format!("tools/{id}")).unwrap();
    let targets = [(name("a"), &search), (name("b"), &other), (name("c"), &search)].into();
    let warnings = PromptTemplate.warn_of_targets(&given, &targets);
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(warning.contains("`prompt_template.tools[2]`") && warning.contains("tools/a"), "{warning}");
}

#[test]
fn regression_what_a_builder_takes_with_something_else_and_a_budget_without_room_are_said() {
    use crate::proto::v1::ProviderSpec;
    let provider = ProviderSpec { r#type: ProviderType::Anthropic.into(), ..Default::default() };
    let (provider, _) = plan("providers/anthropic", Spec::Provider(provider), None);
    let warned = |change: fn(&mut ReasoningParameters)| {
        let given = spec(|spec| {
            spec.provider = "providers/anthropic".into();
            reasoning(change)(spec);
        });
        let name = ResourceName::parse("providers/anthropic").unwrap();
        let targets = Targets::from([(name, &provider)]);
        assert_eq!(PromptTemplate.check_targets(&given, &contracts(&targets)), []);
        PromptTemplate.warn_of_targets(&given, &targets).join("\n")
    };
    let told = warned(|given| given.chain_of_thought = Some(true));
    assert!(told.contains("takes it only with `thinking_mode=adaptive`"), "{told}");
    let told = warned(|given| given.thinking_tokens = Some(8000));
    assert!(told.contains("`prompt_template.reasoning.thinking_tokens` must be less than 4096"), "{told}");
    assert_eq!(warned(|given| given.thinking_tokens = Some(4095)), "");
}

/// A provider of an older release has the request builder of that time.
#[test]
fn regression_an_older_request_builder_of_the_type_is_told_of() {
    use crate::proto::v1::ProviderSpec;
    let provider = ProviderSpec { r#type: ProviderType::Anthropic.into(), ..Default::default() };
    let (mut provider, violations) = plan("providers/anthropic", Spec::Provider(provider), None);
    assert_eq!(violations, []);
    let given = spec(|spec| {
        spec.provider = "providers/anthropic".into();
        spec.reasoning =
            Some(ReasoningParameters { effort: ReasoningEffort::High.into(), ..Default::default() });
    });
    let name = ResourceName::parse("providers/anthropic").unwrap();
    let told = |provider: &Spec| PromptTemplate.warn_of_targets(&given, &[(name.clone(), provider)].into());
    assert_eq!(told(&provider), Vec::<String>::new());
    let Spec::Provider(older) = &mut provider else { unreachable!("it is a provider") };
    older.request_builder.as_mut().unwrap().payload_structure.remove("reasoning_effort");
    let [warning] = &told(&provider)[..] else { panic!("{:?}", told(&provider)) };
    assert!(warning.contains("`prompt_template.reasoning.effort` is not sent"), "{warning}");
    assert!(warning.contains("clear `request_builder` to take it"), "{warning}");
}

pub(in crate::kinds) fn any_template() -> impl Strategy<Value = PromptTemplateSpec> {
    let variable = ("[a-c]", 0..7i32, any::<Option<bool>>(), option::of("[0-9a-z]{0,3}"));
    let generation =
        (option::of(-0.5..2.5f64), option::of(0..2000u32), vec("[a-c]{0,2}", 0..3), any::<Option<i64>>());
    let chat = ("[a-c]{0,2}", any::<Option<bool>>(), any::<Option<bool>>());
    let reasoning = (0..9i32, 0..5i32, option::of(0..100u32));
    let text = prop_oneof![Just("Say {{a}}."), Just("Say it."), Just("{{")];
    let parts = (vec(variable, 0..3), option::of(generation), option::of(chat), option::of(reasoning));
    (text, parts).prop_map(|(text, (variables, generation, chat, reasoning))| PromptTemplateSpec {
        template: text.to_owned(),
        variables: variables
            .into_iter()
            .map(|(name, r#type, required, default_value)| TemplateVariable {
                name,
                r#type,
                required,
                default_value,
                description: String::new(),
            })
            .collect(),
        generation: generation.map(|(temperature, top_k, stop_sequences, seed)| GenerationParameters {
            temperature,
            top_k,
            stop_sequences,
            seed,
            ..Default::default()
        }),
        chat: chat.map(|(system_prompt, stream, parallel_tool_calls)| ChatParameters {
            system_prompt,
            stream,
            parallel_tool_calls,
            ..Default::default()
        }),
        reasoning: reasoning.map(|(effort, thinking_mode, thinking_tokens)| ReasoningParameters {
            effort,
            thinking_mode,
            thinking_tokens,
            ..Default::default()
        }),
        ..Default::default()
    })
}
