//! Refusals, with advice for the person who has the file.

use tract_tflite::tflite::{BuiltinOperator, Model, Operator, SubGraph};

use crate::error::Error;

/// The operator's code, also in files older than the 32-bit field, and its custom name.
pub(super) fn operator_code<'a>(
    file: Model<'a>,
    operator: Operator<'a>,
) -> Option<(BuiltinOperator, &'a str)> {
    let codes = file.operator_codes()?;
    let index = usize::try_from(operator.opcode_index()).ok()?;
    if index >= codes.len() {
        return None;
    }
    let code = codes.get(index);
    let builtin = i32::from(code.deprecated_builtin_code()).max(code.builtin_code().0);
    Some((
        BuiltinOperator(builtin),
        code.custom_code().unwrap_or_default(),
    ))
}

/// The operator's name as the schema writes it, or the custom operator's own.
pub(super) fn operator_name(builtin: BuiltinOperator, custom: &str) -> String {
    match builtin.variant_name() {
        Some("CUSTOM") if custom.is_empty() => "CUSTOM".into(),
        Some("CUSTOM") => custom
            .chars()
            .filter(|c| !c.is_control())
            .take(80)
            .collect(),
        Some(name) => name.into(),
        None => format!("builtin operator {}", builtin.0),
    }
}

/// Why an operator as a whole is refused.
pub(super) fn operator(model: &str, index: usize, name: &str) -> Error {
    let (what, advice) = match name {
        "edgetpu-custom-op" => (
            ", which only an Edge TPU runs,",
            "use the file without \"_edgetpu\" in its name",
        ),
        "WHILE" | "IF" | "CALL" | "CALL_ONCE" => (
            ", which is control flow,",
            "export the model without loops, branches and several signatures",
        ),
        "VAR_HANDLE"
        | "READ_VARIABLE"
        | "ASSIGN_VARIABLE"
        | "LSTM"
        | "RNN"
        | "SVDF"
        | "UNIDIRECTIONAL_SEQUENCE_LSTM"
        | "BIDIRECTIONAL_SEQUENCE_LSTM"
        | "UNIDIRECTIONAL_SEQUENCE_RNN"
        | "BIDIRECTIONAL_SEQUENCE_RNN" => (
            ", which keeps a state between runs,",
            "use a model that sees one picture at a time",
        ),
        _ if name.starts_with("Flex") => (
            ", a TensorFlow operator,",
            "convert the model without SELECT_TF_OPS, to built-in TFLite operators only",
        ),
        _ => (
            "",
            "use a model without it, such as an SSD MobileNet detector in .tflite, or export a float .onnx",
        ),
    };
    Error::Unsupported {
        model: model.into(),
        feature: format!("operator {index} ({name}){what}"),
        advice: advice.into(),
    }
}

/// A file of several subgraphs, named by its control flow where it has any.
pub(super) fn several_subgraphs<'a>(model: &str, file: Model<'a>, first: SubGraph<'a>) -> Error {
    let operators = first.operators().into_iter().flatten();
    for (index, candidate) in operators.enumerate() {
        if let Some((builtin, custom)) = operator_code(file, candidate) {
            let name = operator_name(builtin, custom);
            if matches!(name.as_str(), "WHILE" | "IF" | "CALL" | "CALL_ONCE") {
                return operator(model, index, &name);
            }
        }
    }
    Error::Unsupported {
        model: model.into(),
        feature: "a file of several subgraphs".into(),
        advice: "export the model with one signature and without control flow".into(),
    }
}
