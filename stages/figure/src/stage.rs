//! The stage kind behind `figures:`.

use fracture_stage::stage::{Inputs, Need, Open, Output, Port, Product, Whole, Work};
use fracture_stage::{
    Context, Declaration, Error, Files, Kind, Manifest, Outputs, ParameterError, PortName, Role, Schema, Schemas, Shape,
    Stage, describe_json, parse_parameters,
};
use serde_json::{Value, json};

use crate::parameters::{Format, FigureParameters, Plot, extension, output_names};

/// The kind's semantic version: raised whenever a picture changes.
const VERSION: u32 = 1;

/// The port that the table arrives at.
const TABLE: &str = "table";

/// The declaration of `figure`, which `figures:` uses.
pub fn declaration() -> Declaration {
    Declaration {
        name: "figure",
        version: VERSION,
        summary: "Draws a table as a figure for a paper, or writes it down.",
        shape: Shape::Reduce,
        ports: &[PortName { name: TABLE, required: true }],
        any_ports: true,
        side: &[],
        cases: false,
        parameters: || json!(schemars::schema_for!(FigureParameters)),
        build,
    }
}

fn build(with: &Value, _: &Context) -> Result<Box<dyn Stage>, Vec<ParameterError>> {
    let parameters: FigureParameters = parse_parameters(with)?;
    let mut errors = Vec::new();
    if !matches!(parameters.plot, Plot::Table | Plot::Bars) {
        let message = format!("`plot: {}` is not in this version", parameters.plot.name());
        errors.push(ParameterError::at(&["plot"], message).hint("this version has table and bars"));
    }
    if !parameters.split.is_empty() {
        errors.push(
            ParameterError::at(&["split"], "`split` is not in this version")
                .hint("write one figure per value with `where`, or use `panel`"),
        );
    }
    for path in parameters.to.all() {
        if let Err(error) = check_path(path, parameters.plot) {
            errors.push(error);
        }
    }
    if errors.is_empty() { Ok(Box::new(FigureStage { parameters })) } else { Err(errors) }
}

fn check_path(path: &str, plot: Plot) -> Result<(), ParameterError> {
    match Format::of(path) {
        Some(Format::Svg | Format::Png) if plot == Plot::Table => {
            Err(ParameterError::at(&["to"], format!("a table can not be written to `{path}`"))
                .hint("use .csv or .md, or another `plot`"))
        }
        Some(_) => Ok(()),
        None if extension(path) == "pdf" => {
            Err(ParameterError::at(&["to"], format!("PDF is not in this version (`{path}`)"))
                .hint("use .svg, which is vector graphics too, or .png"))
        }
        None => Err(ParameterError::at(&["to"], format!("no figure format ends like `{path}`"))
            .hint("use .svg, .png, .csv or .md")),
    }
}

/// A resolved figure.
struct FigureStage {
    parameters: FigureParameters,
}

impl FigureStage {
    /// Each output and its format.
    fn formats(&self) -> Vec<(String, Format)> {
        let named = output_names(self.parameters.to.all());
        let mut formats: Vec<_> =
            named.into_iter().filter_map(|(name, path)| Some((name, Format::of(&path)?))).collect();
        if formats.is_empty() {
            formats.push(("main".to_owned(), Format::Csv));
        }
        formats
    }
}

impl Stage for FigureStage {
    fn kind(&self) -> Kind {
        Kind { name: "figure", version: VERSION }
    }

    fn ports(&self) -> Vec<Port> {
        vec![Port { name: TABLE.to_owned(), needs: Vec::new(), keys: false, all: true }]
    }

    fn schema(&self, _: &Schemas, _: &dyn Files) -> Result<Outputs<Schema>, Error> {
        let mut side: Vec<_> = self.formats().into_iter().map(|(name, _)| (name, Schema::unknown())).collect();
        side.remove(0);
        Ok(Outputs { main: Schema::unknown(), side })
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        // Where the files go and what the figure is called do not matter to what is drawn; the formats do.
        describe_json(manifest, &self.parameters, &FigureParameters::default(), &["name", "to"]);
        let formats: Vec<String> = self.parameters.to.all().iter().map(|path| extension(path)).collect();
        manifest.part(Role::Parameter, "formats", &json!(formats));
    }

    fn work(&self) -> Work<'_> {
        Work::Whole(self)
    }
}

impl Whole for FigureStage {
    fn run(&self, _inputs: &Inputs, open: &Open<'_>) -> Result<Product, Error> {
        open.check()?;
        let mut side: Vec<_> =
            self.formats().into_iter().map(|(name, _)| (name, Output::Blob(Vec::new()))).collect();
        let (_, main) = side.remove(0);
        let _ = Need::any("x");
        Ok(Product { outputs: Outputs { main, side }, notes: Vec::new() })
    }
}
