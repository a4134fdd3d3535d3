"""Builds the `dg2_scenes` data set: python -m scripts.make_scenes --data_dir=data."""

from absl import flags

from dg2_jax.data.scenes import builder
from dg2_jax.scripts.command import command

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", "data", "Folder for the data set.")
flags.DEFINE_string("config", "full", "full, tiny, or such as train12000.")
flags.DEFINE_integer("num_workers", None, "Rendering processes; one per CPU by default.", 1)
flags.DEFINE_string("sheet", None, "Where to write a PNG of the first pictures, if anywhere.")


def main() -> None:
    """Builds, reports where, and writes the contact sheet if asked for."""
    built = builder.build(FLAGS.data_dir, FLAGS.config, FLAGS.num_workers)
    sizes = {name: split.num_examples for name, split in built.info.splits.items()}
    print(f"{built.data_path}: {sizes}")
    if FLAGS.sheet:
        source = builder.load("train", FLAGS.data_dir, FLAGS.config)
        builder.contact_sheet(source).save(FLAGS.sheet)


if __name__ == "__main__":
    command(main)
