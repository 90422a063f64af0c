# Sourced by what gets packages of Debian's and installs none of them.

# Sets `apt` to an apt-get with lists and caches of its own in folder $1, and the sources that the other arguments name:
# type, mirror (Debian or Debian-Security: the machine's own) and suite.
apt_apart() {
    local folder=$1 source type label suite mirror
    shift
    mkdir -p "$folder"/{none,lists/partial,cache/archives/partial}
    for source; do
        read -r type label suite <<< "$source"
        mirror=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' | awk -v label="$label" '$1 == label { print $2; exit }')
        # Where there are no security updates apart, they are among the rest.
        [[ -n $mirror || $label == Debian-Security ]] || { echo "apt knows no mirror of Debian here" >&2; return 1; }
        [[ -z $mirror ]] || echo "$type [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
    done > "$folder/sources"
    apt_options=(-q -o "Dir::Etc::sourcelist=$folder/sources" -o "Dir::Etc::sourceparts=$folder/none"
        -o "Dir::State::lists=$folder/lists" -o "Dir::Cache=$folder/cache" -o Debug::NoLocking=1
        -o Acquire::Retries=3 -o "APT::Sandbox::User=$(id -un)")
    apt=(apt-get "${apt_options[@]}")
    "${apt[@]}" update
}
