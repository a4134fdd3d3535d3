"""Builds the `dg2_scenes` data set: python -m scripts.make_scenes --data_dir=data."""

from absl import app, flags

from dg2_jax.data.scenes import builder

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", "data", "Folder for the data set.")
flags.DEFINE_enum("config", "full", ["full", "tiny"], "Size of the data set.")
flags.DEFINE_integer("num_workers", None, "Rendering processes; one a CPU by default.", 1)
flags.DEFINE_string("sheet", None, "Where to write a PNG of the first pictures, if anywhere.")


def main(argv: list[str]) -> None:
    """Builds, reports where, and writes the contact sheet if asked for."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    built = builder.build(FLAGS.data_dir, FLAGS.config, FLAGS.num_workers)
    sizes = {name: split.num_examples for name, split in built.info.splits.items()}
    print(f"{built.data_path}: {sizes}")
    if FLAGS.sheet:
        source = builder.load("train", FLAGS.data_dir, FLAGS.config)
        builder.contact_sheet(source).save(FLAGS.sheet)


if __name__ == "__main__":
    app.run(main)
