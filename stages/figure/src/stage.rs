//! The stage kind behind `figures:`.

use fracture_stage::stage::{Inputs, Need, Open, Output, Port, Product, Whole, Work};
use fracture_stage::{
    Context, Declaration, Error, Files, Kind, Manifest, Outputs, ParameterError, PortName, Role, Schema, Schemas,
    Shape, Stage, View, describe_json, parse_parameters,
};
use serde_json::{Value, json};

use crate::bars;
use crate::font::Font;
use crate::parameters::{FigureParameters, Format, Plot, extension, output_names};
use crate::rows::Rows;
use crate::{png, svg, text};

/// The kind's semantic version: raised whenever a picture changes.
const VERSION: u32 = 1;

/// The port that the table arrives at.
const TABLE: &str = "table";

/// What captions and ticks are made from, where the table has it.
const NOTED: &[&str] = &[
    "n",
    "tau",
    "contrast",
    "aggregate",
    "k",
    "noise_floor",
    "judge",
    "confidence",
];

/// The declaration of `figure`, which `figures:` uses.
pub fn declaration() -> Declaration {
    Declaration {
        name: "figure",
        version: VERSION,
        summary: "Draws a table as a figure for a paper, or writes it down.",
        shape: Shape::Reduce,
        ports: &[PortName {
            name: TABLE,
            required: true,
        }],
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
    if errors.is_empty() {
        Ok(Box::new(FigureStage { parameters }))
    } else {
        Err(errors)
    }
}

fn check_path(path: &str, plot: Plot) -> Result<(), ParameterError> {
    match Format::of(path) {
        Some(Format::Svg | Format::Png) if plot == Plot::Table => Err(ParameterError::at(
            &["to"],
            format!("a table can not be written to `{path}`"),
        )
        .hint("use .csv or .md, or another `plot`")),
        Some(_) => Ok(()),
        None if extension(path) == "pdf" => Err(ParameterError::at(
            &["to"],
            format!("PDF is not in this version (`{path}`)"),
        )
        .hint("use .svg, which is vector graphics too, or .png")),
        None => Err(
            ParameterError::at(&["to"], format!("no figure format ends like `{path}`"))
                .hint("use .svg, .png, .csv or .md"),
        ),
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
        let mut formats: Vec<_> = named
            .into_iter()
            .filter_map(|(name, path)| Some((name, Format::of(&path)?)))
            .collect();
        if formats.is_empty() {
            formats.push(("main".to_owned(), Format::Csv));
        }
        formats
    }
}

impl Stage for FigureStage {
    fn kind(&self) -> Kind {
        Kind {
            name: "figure",
            version: VERSION,
        }
    }

    fn ports(&self) -> Vec<Port> {
        let parameters = &self.parameters;
        let mut needs: Vec<Need> = parameters.filter.keys().map(|name| Need::any(name)).collect();
        let table = parameters.plot == Plot::Table;
        if table {
            needs.extend(parameters.columns.iter().map(|name| Need::any(name)));
        } else {
            let y = bars::height(parameters);
            let drawn = [&parameters.x, &parameters.color, &parameters.panel]
                .into_iter()
                .flatten();
            needs.extend(drawn.map(|name| Need::any(name)).chain([Need::any(y)]));
            needs.extend(["low", "high"].map(|end| Need::optional(&format!("{y}_{end}"))));
            needs.extend(NOTED.iter().map(|name| Need::optional(name)));
        }
        let mut seen = Vec::new();
        needs.retain(|need| {
            let new = !seen.contains(&need.column);
            seen.push(need.column.clone());
            new
        });
        // Key columns tell rows apart that belong to different bars, and put the rows of several tasks in order.
        vec![Port {
            name: TABLE.to_owned(),
            needs,
            keys: true,
            all: table && parameters.columns.is_empty(),
        }]
    }

    fn schema(&self, _: &Schemas, _: &dyn Files) -> Result<Outputs<Schema>, Error> {
        let mut side: Vec<_> = self
            .formats()
            .into_iter()
            .map(|(name, _)| (name, Schema::unknown()))
            .collect();
        side.remove(0);
        Ok(Outputs {
            main: Schema::unknown(),
            side,
        })
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        // Where the files go and what the figure is called do not matter to what is drawn; the formats do.
        describe_json(
            manifest,
            &self.parameters,
            &FigureParameters::default(),
            &["name", "to"],
        );
        let formats: Vec<String> = self.parameters.to.all().iter().map(|path| extension(path)).collect();
        manifest.part(Role::Parameter, "formats", &json!(formats));
    }

    fn work(&self) -> Work<'_> {
        Work::Whole(self)
    }
}

impl Whole for FigureStage {
    fn run(&self, inputs: &Inputs, open: &Open<'_>) -> Result<Product, Error> {
        open.check()?;
        self.files(&inputs.tables(TABLE))
            .map_err(|error| error.context(format!("figure `{}`", self.parameters.name)))
    }
}

impl FigureStage {
    /// Makes every file.
    fn files(&self, views: &[&View]) -> Result<Product, Error> {
        let port = self.ports().remove(0);
        let rows = Rows::join(views, &|name| {
            port.all || port.needs.iter().any(|need| need.column == name)
        })?;
        let (drawn, scene) = match self.parameters.plot {
            Plot::Bars => {
                let (rows, notes) = bars::choose(rows, &self.parameters)?;
                let font = Font::open()?;
                let bars = bars::gather(&rows, &self.parameters, &notes)?;
                let scene = bars::draw(&font, &bars, self.parameters.title.as_deref());
                (rows, Some(scene))
            }
            _ => (rows.chosen(&self.parameters.filter)?, None),
        };
        let columns = text::columns(&drawn, &self.parameters.columns)?;
        let mut outputs = Vec::new();
        for (name, format) in self.formats() {
            let bytes = match (format, &scene) {
                (Format::Csv, _) => text::csv(&drawn, &columns),
                (Format::Md, _) => text::markdown(&drawn, &columns, self.parameters.title.as_deref()),
                (Format::Svg, Some(scene)) => svg::write(scene),
                (Format::Png, Some(scene)) => png::write(scene)?,
                // Refused when the figure was built.
                (Format::Svg | Format::Png, None) => return Err(Error::internal("a table is no picture")),
            };
            outputs.push((name, Output::Blob(bytes)));
        }
        let (_, main) = outputs.remove(0);
        Ok(Product {
            outputs: Outputs { main, side: outputs },
            notes: Vec::new(),
        })
    }
}
