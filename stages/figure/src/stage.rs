//! The stage kind behind `figures:`.

use fracture_cache::ColumnType;
use fracture_stage::stage::{Inputs, Keys, Open, Output, Port, Product, Whole, Work};
use fracture_stage::{
    Context, Declaration, Error, Files, Kind, Manifest, Named, Outputs, ParameterError, PortName, Role, Schema,
    Schemas, Shape, Stage, describe_json, parse_parameters,
};
use serde_json::{Value, json};

use crate::font::Font;
use crate::parameters::{FigureParameters, Format, Plot, extension, output_names};
use crate::plots::{self, Drawing, Input, TABLE, Tables};
use crate::rows::{Rows, list};
use crate::scene::{Mark, Scene};
use crate::{pdf, png, split, svg, text};

/// The kind's semantic version: raised whenever a picture changes.
const VERSION: u32 = 2;

/// The files of an output, with their names.
type Tree = Vec<(String, Vec<u8>)>;

/// The declaration of `figure`, which `figures:` uses.
pub fn declaration() -> Declaration {
    Declaration {
        name: "figure",
        version: VERSION,
        summary: "Draws a table as a figure for a paper, or writes it down.",
        shape: Shape::Reduce,
        // A figure of several tables names their ports, so that a bare `from` alone fills this one.
        ports: &[PortName {
            name: TABLE,
            required: false,
        }],
        any_ports: true,
        side: &[],
        cases: false,
        spread: None,
        parameters: || json!(schemars::schema_for!(FigureParameters)),
        build,
    }
}

fn build(with: &Value, _: &Context) -> Result<Box<dyn Stage>, Vec<ParameterError>> {
    let parameters: FigureParameters = parse_parameters(with)?;
    let mut errors: Vec<ParameterError> = parameters.to.all().iter().filter_map(|path| check_path(path)).collect();
    split::check(&parameters, &mut errors);
    for (column, _) in parameters.filter.iter().filter(|(_, chosen)| chosen.texts().is_empty()) {
        let wrong = ParameterError::at(&["where", column], format!("no value of `{column}` is chosen"));
        errors.push(wrong.hint("expected at least one value"));
    }
    if parameters.width.is_some_and(|width| !(4.0..=100.0).contains(&width)) {
        errors.push(ParameterError::at(&["width"], "`width` is in centimetres").hint("expected 4 to 100"));
    }
    if errors.is_empty() {
        Ok(Box::new(FigureStage { parameters }))
    } else {
        Err(errors)
    }
}

fn check_path(path: &str) -> Option<ParameterError> {
    if Format::of(path).is_some() {
        return None;
    }
    let wrong = ParameterError::at(&["to"], format!("no figure format ends like `{path}`"));
    Some(wrong.hint("use .svg, .pdf, .png, .csv or .md"))
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

    /// Checks that the tables of `from` are those that the plot reads.
    fn connected(&self, arriving: &[&str]) -> Result<(), Error> {
        let inputs = plots::inputs(&self.parameters);
        let plot = self.parameters.plot.name();
        let names = || {
            inputs
                .iter()
                .flat_map(|input| &input.names)
                .map(|name| (*name).to_owned())
        };
        for port in arriving {
            if !names().any(|name| name == *port) {
                return Err(Error::pipeline(format!("`plot: {plot}` reads no table `{port}`"))
                    .hint(format!("`from` may have {}", list(&names().collect::<Vec<_>>()))));
            }
        }
        for input in &inputs {
            let found = input.names.iter().filter(|name| arriving.contains(name)).count();
            if found > 1 || (found == 0 && input.required) {
                let names: Vec<String> = input.names.iter().map(|name| (*name).to_owned()).collect();
                let problem = if found > 1 {
                    "has one table twice"
                } else {
                    "lacks the table that is drawn"
                };
                return Err(Error::pipeline(format!("the figure's `from` {problem}"))
                    .hint(format!("`plot: {plot}` draws one of {}", list(&names))));
            }
        }
        Ok(())
    }
}

impl FigureStage {
    /// Checks that what is drawn is no text.
    fn check_height(&self, inputs: &Schemas) -> Result<(), Error> {
        let drawn = matches!(
            self.parameters.plot,
            Plot::Bars | Plot::Grid | Plot::Landscape | Plot::Contour
        );
        let Some(y) = self.parameters.y.as_deref().filter(|_| drawn) else {
            return Ok(());
        };
        let main = plots::inputs(&self.parameters).into_iter().next();
        let ports = main.map(|main| main.names).unwrap_or_default();
        let kind = |schema: &Schema| schema.field(y).and_then(|field| field.kind);
        let kinds: Vec<_> = ports.iter().flat_map(|port| inputs.at(port)).map(kind).collect();
        if kinds.is_empty() || kinds.iter().any(|kind| *kind != Some(ColumnType::Text)) {
            return Ok(());
        }
        Err(
            Error::pipeline(format!("column `{y}` is a text, and a number is needed"))
                .parameter(&["y"])
                .hint("name a column of numbers"),
        )
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
        // Key columns tell rows apart that belong to different marks, and put the rows of several tasks in order.
        let ports = |input: Input| {
            let port = move |name: &&str| Port {
                name: (*name).to_owned(),
                needs: input.needs.clone(),
                keys: Keys::Values,
                all: input.all,
            };
            input.names.iter().map(port).collect::<Vec<_>>()
        };
        plots::inputs(&self.parameters).into_iter().flat_map(ports).collect()
    }

    fn schema(&self, inputs: &Schemas, _: &dyn Files) -> Result<Outputs<Schema>, Error> {
        let arriving: Vec<&str> = inputs.ports.iter().map(|(name, _)| name.as_str()).collect();
        self.connected(&arriving)?;
        self.check_height(inputs)?;
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

    fn named(&self) -> Vec<Named> {
        // Only of the table that is drawn a row must be left.
        let ports = plots::inputs(&self.parameters)
            .into_iter()
            .next()
            .map(|main| main.names);
        let of_port = |port: &'static str| {
            let filter = self.parameters.filter.iter();
            filter.map(move |(column, chosen)| Named {
                any_of: chosen.placed(column),
                is_key: false,
                hint: None,
                port: port.to_owned(),
                column: column.clone(),
            })
        };
        ports.into_iter().flatten().flat_map(of_port).collect()
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
        self.files(inputs, open)
            .map_err(|error| error.context(format!("figure `{}`", self.parameters.name)))
    }
}

impl FigureStage {
    /// The tables that arrive, in the order of the plot's inputs.
    fn tables(&self, inputs: &Inputs) -> Result<Tables, Error> {
        let mut tables = Vec::new();
        for input in plots::inputs(&self.parameters) {
            let connected = |name: &&&str| inputs.ports.iter().any(|(port, _)| port == *name);
            let Some(name) = input.names.iter().find(connected) else {
                tables.push(None);
                continue;
            };
            let wanted = |name: &str| input.all || input.needs.iter().any(|need| need.column == name);
            tables.push(Some(Rows::join(&inputs.tables(name), &wanted)?));
        }
        Ok(Tables(tables))
    }

    /// Makes every file.
    fn files(&self, inputs: &Inputs, open: &Open<'_>) -> Result<Product, Error> {
        let font = Font::open()?;
        let tables = self.tables(inputs)?;
        let mut notes = Vec::new();
        let made: Vec<(String, Output)> = if self.parameters.split.is_empty() {
            let files = self.draw(&font, &self.parameters, &tables, &mut notes)?;
            files
                .into_iter()
                .map(|(name, _, bytes)| (name, Output::Blob(bytes)))
                .collect()
        } else {
            let mut trees: Vec<(String, Tree)> = Vec::new();
            for part in split::parts(&tables, &self.parameters)? {
                open.check()?;
                let parameters = FigureParameters {
                    title: part.title,
                    ..self.parameters.clone()
                };
                let files = self
                    .draw(&font, &parameters, &part.tables, &mut notes)
                    .map_err(|error| error.context(format!("the part `{}`", part.name)))?;
                for (name, format, bytes) in files {
                    let file = (format!("{}.{}", part.name, format.ending()), bytes);
                    match trees.iter_mut().find(|(other, _)| *other == name) {
                        Some((_, tree)) => tree.push(file),
                        None => trees.push((name, vec![file])),
                    }
                }
            }
            trees
                .into_iter()
                .map(|(name, tree)| (name, Output::Tree(tree)))
                .collect()
        };
        let mut outputs = made.into_iter();
        let Some((_, main)) = outputs.next() else {
            return Err(Error::task("there is nothing to draw: `split` finds no value")
                .hint("`fracture show` the stage that the figure is `from`"));
        };
        Ok(Product {
            outputs: Outputs {
                main,
                side: outputs.collect(),
            },
            notes,
        })
    }

    /// Every output of one figure with its format and bytes.
    fn draw(
        &self,
        font: &Font,
        parameters: &FigureParameters,
        tables: &Tables,
        notes: &mut Vec<String>,
    ) -> Result<Vec<(String, Format, Vec<u8>)>, Error> {
        let drawing = Drawing {
            font,
            parameters,
            tables,
        };
        let formats = self.formats();
        let text = matches!(parameters.plot, Plot::Table | Plot::Numbers);
        let picture = !text || formats.iter().any(|(_, format)| format.is_picture());
        let (table, scene) = if picture {
            let drawn = plots::draw(&drawing)?;
            missing(font, &drawn.scene, notes);
            (drawn.table, Some(drawn.scene))
        } else {
            (plots::table(&drawing)?, None)
        };
        let columns = text::columns(&table, &parameters.columns)?;
        let mut files = Vec::new();
        for (name, format) in formats {
            let bytes = match (format, &scene) {
                (Format::Csv, _) => text::csv(&table, &columns),
                (Format::Md, _) => text::markdown(&table, &columns, parameters.title.as_deref()),
                (Format::Svg, Some(scene)) => svg::write(scene),
                (Format::Pdf, Some(scene)) => pdf::write(scene)?,
                (Format::Png, Some(scene)) => png::write(scene)?,
                (Format::Svg | Format::Pdf | Format::Png, None) => {
                    return Err(Error::internal("a picture that was not drawn"));
                }
            };
            files.push((name, format, bytes));
        }
        Ok(files)
    }
}

/// Notes the letters that the font can not show, once.
fn missing(font: &Font, scene: &Scene, notes: &mut Vec<String>) {
    let mut letters: Vec<char> = Vec::new();
    for mark in &scene.marks {
        if let Mark::Text(label) = mark {
            letters.extend(font.missing(&label.text));
        }
    }
    letters.sort_unstable();
    letters.dedup();
    let shown: Vec<String> = letters.iter().take(8).map(|letter| format!("`{letter}`")).collect();
    let note = format!(
        "the font has no letter {}: boxes stand for it; rename with a `query`",
        shown.join(", ")
    );
    if !letters.is_empty() && !notes.contains(&note) {
        notes.push(note);
    }
}
