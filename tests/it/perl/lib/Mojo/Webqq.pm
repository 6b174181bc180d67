package Mojo::Webqq;

# Stands in for the Perl module of this name, which the tests can't have: it notes what a template gives it and then
# waits to be stopped. Nothing but perl itself is needed, not even its library.

use strict;
use warnings;

# One line of JSON for each thing that happens, in a file named after the account. All scalars become strings.
sub note {
    my ($what, $value) = @_;
    my $path = "$ENV{MOJO_WEBQQ_TMPDIR}/notes_$ENV{MOJO_WEBQQ_ACCOUNT}";
    open(my $file, '>>', $path) or die "can't note anything in $path: $!";
    syswrite($file, '{' . text($what) . ':' . json($value) . "}\n") or die "can't write to $path: $!";
    close($file);
}

sub json {
    my ($value) = @_;
    return 'null' unless defined $value;
    return '[' . join(',', map { json($_) } @$value) . ']' if ref $value eq 'ARRAY';
    return '{' . join(',', map { text($_) . ':' . json($value->{$_}) } sort keys %$value) . '}' if ref $value eq 'HASH';
    return text($value);
}

sub text {
    my ($text) = @_;
    $text =~ s/([\x00-\x1f"\\])/sprintf('\\u%04x', ord $1)/ge;
    return "\"$text\"";
}

sub new {
    my ($class, @options) = @_;
    note('new', \@options);
    return bless {account => $ENV{MOJO_WEBQQ_ACCOUNT}}, $class;
}

sub account { $_[0]{account} }

sub load {
    my ($self, @what) = @_;
    note('load', \@what);
}

sub run {
    my $stopped = 0;
    local $SIG{TERM} = sub { $stopped = 1 };
    note('run', {pid => $$, interpreter => $^X, environment => {%ENV}});
    select(undef, undef, undef, 0.02) until $stopped;
    note('stop', undef);
}

1;
